package main

import (
	"time"

	"github.com/spiffe/go-spiffe/v2/bundle/x509bundle"
	"github.com/spiffe/go-spiffe/v2/spiffegrpc/grpccredentials"
	"github.com/spiffe/go-spiffe/v2/spiffeid"
	"github.com/spiffe/go-spiffe/v2/spiffetls/tlsconfig"
	"github.com/spiffe/go-spiffe/v2/svid/x509svid"
	"google.golang.org/grpc"
	"google.golang.org/grpc/backoff"
	"google.golang.org/grpc/credentials"
)

// Pauses stay short: a broker that was restarted is found again at once.
var reconnecting = grpc.ConnectParams{
	Backoff:           backoff.Config{BaseDelay: 50 * time.Millisecond, Multiplier: 2, Jitter: 0.5, MaxDelay: time.Second},
	MinConnectTimeout: 10 * time.Second,
}

// connect opens a connection of its own to the one workload that may answer.
func connect(address, server, identity string) (*grpc.ClientConn, error) {
	id, err := spiffeid.FromString(server)
	if err != nil {
		return nil, err
	}
	svid, err := x509svid.Load(identity+".pem", identity+".key")
	if err != nil {
		return nil, err
	}
	roots, err := x509bundle.Load(id.TrustDomain(), identity+".roots")
	if err != nil {
		return nil, err
	}
	return grpc.NewClient(address,
		grpc.WithTransportCredentials(grpccredentials.MTLSClientCredentials(svid, roots, tlsconfig.AuthorizeID(id))),
		grpc.WithConnectParams(reconnecting),
		grpc.WithDisableRetry(), // what is lost has to show
	)
}

// accept returns what a server of this identity demands: an SVID of its own trust domain.
func accept(identity string) (credentials.TransportCredentials, error) {
	svid, err := x509svid.Load(identity+".pem", identity+".key")
	if err != nil {
		return nil, err
	}
	domain := svid.ID.TrustDomain()
	roots, err := x509bundle.Load(domain, identity+".roots")
	if err != nil {
		return nil, err
	}
	return grpccredentials.MTLSServerCredentials(svid, roots, tlsconfig.AuthorizeMemberOf(domain)), nil
}
