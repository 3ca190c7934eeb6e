package main

import (
	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// reason returns what the broker refused with; empty when it was not the broker that said no.
func reason(err error) string {
	for _, detail := range status.Convert(err).Details() {
		if info, ok := detail.(*errdetails.ErrorInfo); ok && info.Domain == "broker.v1" {
			return info.Reason
		}
	}
	return ""
}

// passing reports whether a stream that ended like this is to be opened again from its cursor.
func passing(err error) bool {
	switch status.Code(err) {
	case codes.Unavailable, codes.ResourceExhausted, codes.Canceled:
		return true
	case codes.Internal:
		return true // what gRPC makes of a stream that was cut off in the middle of a message
	default:
		return false
	}
}
