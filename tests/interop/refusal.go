package main

import (
	"errors"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// The domain of ErrorInfo that says the refusal is the broker's, or a validator's, and not that of something between.
const domain = "broker.v1"

// A refusal is what broker or service said no with. Programs decide by its reason; the sentence is for an end user.
type refusal struct {
	reason   string
	nextStep string
	sentence string
}

// refused reads a refusal out of what a call ended with; false when it is none.
func refused(err error) (refusal, bool) {
	var found refusal
	var carries interface{ GRPCStatus() *status.Status }
	if !errors.As(err, &carries) {
		return found, false
	}
	for _, detail := range carries.GRPCStatus().Details() {
		switch detail := detail.(type) {
		case *errdetails.ErrorInfo:
			if detail.Domain == domain {
				found.reason = detail.Reason
				found.nextStep = detail.Metadata["next_step"]
			}
		case *errdetails.LocalizedMessage:
			found.sentence = detail.Message
		}
	}
	return found, found.reason != ""
}

// passing reports whether a stream that ended like this is to be opened again from its cursor.
func passing(err error) bool {
	if refusal, ok := refused(err); ok && refusal.reason == "SVID_EXPIRED" {
		return true // the source has the next one
	}
	switch status.Code(err) {
	case codes.Unavailable, codes.ResourceExhausted, codes.Canceled:
		return true
	case codes.Internal:
		return true // what gRPC makes of a stream that was cut off in the middle of a message
	default:
		return false
	}
}

// told puts an error into an answer.
func told(err error) answer {
	if found, ok := refused(err); ok {
		return answer{"refused": found.reason, "next_step": found.nextStep, "sentence": found.sentence}
	}
	return answer{"failed": err.Error()}
}
