package main

import (
	"errors"
	"testing"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

func withReason(t *testing.T, code codes.Code, of string, reason string) error {
	carrying, err := status.New(code, "no").WithDetails(&errdetails.ErrorInfo{Domain: of, Reason: reason})
	if err != nil {
		t.Fatal(err)
	}
	return carrying.Err()
}

func TestOnlyOurDomainRefuses(t *testing.T) {
	ours := withReason(t, codes.PermissionDenied, "broker.v1", "AGENT_REVOKED")
	if found, ok := refused(ours); !ok || found.reason != "AGENT_REVOKED" {
		t.Fatal(found)
	}
	for _, other := range []error{
		withReason(t, codes.PermissionDenied, "proxy.example.org", "AGENT_REVOKED"),
		status.Error(codes.PermissionDenied, "AGENT_REVOKED"),
		errors.New("AGENT_REVOKED"),
	} {
		if found, ok := refused(other); ok {
			t.Fatal(found)
		}
	}
}

func TestWhatPassesAndWhatStays(t *testing.T) {
	for reason, passes := range map[string]bool{"SVID_EXPIRED": true, "SVID_CHAIN_INVALID": false} {
		if passing(withReason(t, codes.Unauthenticated, domain, reason)) != passes {
			t.Fatal(reason)
		}
	}
	if !passing(status.Error(codes.Internal, "unexpected EOF")) {
		t.Fatal("a broker that stopped in the middle of a message is asked again")
	}
	if passing(withReason(t, codes.OutOfRange, domain, "CURSOR_FOREIGN")) {
		t.Fatal("a cursor that is refused stays refused")
	}
}
