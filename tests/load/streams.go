package main

import (
	"context"
	"crypto/sha256"
	"encoding/base64"

	"google.golang.org/grpc"

	brokerv1 "example.org/spiffe-credential-broker/tests/load/gen/broker/v1"
)

// receive returns the next message of a stream and the cursor after it.
type receive func() (*message, string, error)

func audit(ctx context.Context, broker *grpc.ClientConn, of subscriber, cursor string) (receive, error) {
	request := &brokerv1.SubscribeAuditRequest{
		Cursor: cursor, Follow: true, Filter: &brokerv1.AuditFilter{Kinds: of.Kinds, Tenant: of.Tenant},
	}
	stream, err := brokerv1.NewAuditServiceClient(broker).SubscribeAudit(ctx, request, grpc.WaitForReady(true))
	if err != nil {
		return nil, err
	}
	return func() (*message, string, error) {
		page, err := stream.Recv()
		if err != nil {
			return nil, "", err
		}
		told := told(page)
		for _, event := range page.GetEvents() {
			told.Items = append(told.Items, []any{event.GetPosition(), leaf(event.GetEvent())})
		}
		return told, page.GetCursor(), nil
	}, nil
}

func revocations(ctx context.Context, broker *grpc.ClientConn, _ subscriber, cursor string) (receive, error) {
	request := &brokerv1.SubscribeRevocationsRequest{Cursor: cursor}
	service := brokerv1.NewRevocationServiceClient(broker)
	stream, err := service.SubscribeRevocations(ctx, request, grpc.WaitForReady(true))
	if err != nil {
		return nil, err
	}
	return func() (*message, string, error) {
		page, err := stream.Recv()
		if err != nil {
			return nil, "", err
		}
		told := told(page)
		for _, revoked := range page.GetRevoked() {
			item := []any{revoked.GetPosition()}
			for _, index := range revoked.GetStatusIndexes() {
				item = append(item, index)
			}
			for _, id := range revoked.GetCredentialIds() {
				item = append(item, id)
			}
			told.Items = append(told.Items, item)
		}
		if held := page.GetSnapshot(); held != nil {
			told.Snapshot = &snapshot{Indexes: held.GetStatusIndexes(), Credentials: held.GetCredentialIds()}
		}
		return told, page.GetCursor(), nil
	}, nil
}

// A page is a message of either stream.
type page interface {
	GetFromPosition() uint64
	GetToPosition() uint64
	GetHeartbeat() *brokerv1.Heartbeat
}

func told(of page) *message {
	return &message{
		Start: of.GetFromPosition(),
		Stop:  of.GetToPosition(),
		Size:  of.GetHeartbeat().GetPosition(),
		At:    of.GetHeartbeat().GetAt().AsTime().UnixMicro(),
	}
}

// leaf returns the RFC 6962 leaf hash of an event.
func leaf(event []byte) string {
	hash := sha256.Sum256(append([]byte{0}, event...))
	return base64.RawURLEncoding.EncodeToString(hash[:])
}
