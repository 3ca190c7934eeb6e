package main

import (
	"fmt"
	"strings"
	"testing"

	brokerv1 "example.org/spiffe-credential-broker/tests/interop/gen/broker/v1"
)

const shownNowhere = "a.secret.token"

func TestATokenDoesNotPrint(t *testing.T) {
	held := &credential{token: secret(shownNowhere)}
	if held.token() != shownNowhere {
		t.Fatal("it has to be sent")
	}
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q"} {
		if shown := fmt.Sprintf(verb+verb+verb, held, *held, held.token); strings.Contains(shown, shownNowhere) {
			t.Fatal(verb)
		}
	}
}

// Go does not heed debug_redact: that is why there is a type for tokens. When this fails, the page can say less.
func TestAGeneratedMessagePrints(t *testing.T) {
	if shown := fmt.Sprintf("%v", &brokerv1.Credential{Token: shownNowhere}); !strings.Contains(shown, shownNowhere) {
		t.Fatal(shown)
	}
}
