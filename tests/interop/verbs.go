package main

import (
	"context"
	"crypto/rand"
	"fmt"
	"os"
	"strings"

	"github.com/spiffe/go-spiffe/v2/spiffeid"
	"google.golang.org/grpc"
	"google.golang.org/grpc/status"

	brokerv1 "example.org/spiffe-credential-broker/tests/interop/gen/broker/v1"
	ordersv1 "example.org/spiffe-credential-broker/tests/interop/gen/orders/v1"
)

// An ask is one line of input: what to do, and with what.
type ask struct {
	Do         string
	Action     string
	Resource   string // type/id
	Purpose    string
	Audience   string
	RequestID  string `json:"request_id"`
	Intents    []ask
	Credential string
	Address    string
	Order      string
	Path       string
}

// An answer is one line of output. No token is in it.
type answer map[string]any

func (c *client) verbs() map[string]func(context.Context, ask) (answer, error) {
	return map[string]func(context.Context, ask) (answer, error){
		"exchange":      c.exchange,
		"exchange_many": c.exchangeMany,
		"call":          c.call,
		"hand_over":     c.handOver,
		"take":          c.take,
		"revoke":        c.revoke,
	}
}

// exchange declares an intent, and keeps the credential.
func (c *client) exchange(ctx context.Context, asked ask) (answer, error) {
	broker, err := c.toBroker()
	if err != nil {
		return nil, err
	}
	response, err := brokerv1.NewExchangeServiceClient(broker).Exchange(ctx, request(asked))
	if err != nil {
		return nil, err
	}
	return c.keep(response.GetCredential(), asked)
}

// exchangeMany sends several intents in one message, and takes the answers in whatever order they come.
func (c *client) exchangeMany(ctx context.Context, asked ask) (answer, error) {
	broker, err := c.toBroker()
	if err != nil {
		return nil, err
	}
	stream, err := brokerv1.NewExchangeServiceClient(broker).ExchangeStream(ctx)
	if err != nil {
		return nil, err
	}
	message := &brokerv1.ExchangeStreamRequest{}
	for number, intent := range asked.Intents {
		item := &brokerv1.ExchangeStreamRequest_Item{Correlation: uint64(number), Request: request(intent)}
		message.Items = append(message.Items, item)
	}
	// What Send returns is only that the stream has ended; why stands in what Recv returns.
	_ = stream.Send(message)
	_ = stream.CloseSend()
	answers := make([]answer, len(asked.Intents))
	for left := len(answers); left > 0; {
		response, err := stream.Recv()
		if err != nil {
			return nil, err
		}
		for _, item := range response.GetItems() {
			answers[item.GetCorrelation()] = c.outcome(item, asked.Intents[item.GetCorrelation()])
			left--
		}
	}
	return answer{"answers": answers}, nil
}

func (c *client) outcome(item *brokerv1.ExchangeStreamResponse_Item, asked ask) answer {
	switch outcome := item.GetOutcome().(type) {
	case *brokerv1.ExchangeStreamResponse_Item_Credential:
		kept, err := c.keep(outcome.Credential, asked)
		if err != nil {
			return told(err)
		}
		return kept
	case *brokerv1.ExchangeStreamResponse_Item_Refusal:
		return told(status.ErrorProto(outcome.Refusal))
	default:
		return answer{"failed": "an answer of a kind that this client does not know"}
	}
}

// request declares an intent under a request id: with it a lost reply is asked again and gives the same credential.
func request(asked ask) *brokerv1.ExchangeRequest {
	kind, id, _ := strings.Cut(asked.Resource, "/")
	requestID := asked.RequestID
	if requestID == "" {
		requestID = rand.Text()
	}
	return &brokerv1.ExchangeRequest{
		RequestId: requestID,
		Intent: &brokerv1.Intent{
			Action:   asked.Action,
			Resource: &brokerv1.Resource{Type: kind, Which: &brokerv1.Resource_Id{Id: id}},
			Purpose:  asked.Purpose,
			Audience: asked.Audience,
		},
	}
}

// keep holds a credential in the generation that asked for it.
func (c *client) keep(given *brokerv1.Credential, asked ask) (answer, error) {
	audience, err := spiffeid.FromString(asked.Audience)
	if err != nil {
		return nil, err
	}
	held := &credential{token: secret(given.GetToken()), generation: c.current, audience: audience}
	c.held[given.GetCredentialId()] = held
	return answer{
		"credential": given.GetCredentialId(),
		"policies":   given.GetPolicyIds(),
		"thumbprint": held.generation.thumbprint(),
	}, nil
}

// call looks an order up with a credential that is held.
func (c *client) call(ctx context.Context, asked ask) (answer, error) {
	held, ok := c.held[asked.Credential]
	if !ok {
		return nil, fmt.Errorf("no credential %q is held", asked.Credential)
	}
	service, err := held.generation.to(endpoint{id: held.audience, address: asked.Address})
	if err != nil {
		return nil, err
	}
	order, err := ordersv1.NewOrdersServiceClient(service).GetOrder(
		ctx, &ordersv1.GetOrderRequest{OrderId: asked.Order}, grpc.PerRPCCredentials(held),
	)
	if err != nil {
		return nil, err
	}
	return answer{"article": order.GetArticle(), "price_cents": order.GetPriceCents()}, nil
}

// handOver does what no client may do: it leaves a token where another can take it.
func (c *client) handOver(_ context.Context, asked ask) (answer, error) {
	return answer{}, os.WriteFile(asked.Path, []byte(c.held[asked.Credential].token()), 0o600)
}

// take holds a token found somewhere, to be sent with an SVID of this client's own.
func (c *client) take(_ context.Context, asked ask) (answer, error) {
	found, err := os.ReadFile(asked.Path)
	if err != nil {
		return nil, err
	}
	own, err := c.generation()
	if err != nil {
		return nil, err
	}
	audience, err := spiffeid.FromString(asked.Audience)
	c.held[asked.Credential] = &credential{token: secret(string(found)), generation: own, audience: audience}
	return answer{"thumbprint": own.thumbprint()}, err
}

// revoke takes one credential back, as an operator.
func (c *client) revoke(ctx context.Context, asked ask) (answer, error) {
	broker, err := c.toBroker()
	if err != nil {
		return nil, err
	}
	rule := &brokerv1.RevocationRule{Covers: &brokerv1.RevocationRule_CredentialId{CredentialId: asked.Credential}}
	made, err := brokerv1.NewRevocationServiceClient(broker).Revoke(ctx, &brokerv1.RevokeRequest{Rule: rule})
	if err != nil {
		return nil, err
	}
	return answer{"revoked": made.GetRevokedCredentials(), "position": made.GetPosition()}, nil
}
