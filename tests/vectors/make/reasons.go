package main

import (
	"encoding/hex"
	"strings"
)

// reasons is every stable reason by its category. A name is never removed, never renamed, never used for anything else,
// and never moves to another category. A new one is added here, on purpose, and the vectors are made again.
var reasons = []struct{ category, code, names string }{
	{"UNAUTHENTICATED", "UNAUTHENTICATED", `
		TLS_VERSION_REFUSED SVID_ABSENT SVID_MALFORMED SVID_URI_COUNT SVID_ID_INVALID SVID_PATH_MISSING
		SVID_PATH_RESERVED SVID_IS_BROKER SVID_CAN_SIGN SVID_TRUST_DOMAIN_UNKNOWN SVID_CHAIN_INVALID SVID_EXPIRED
		SVID_NOT_YET_VALID IDENTITY_TOKEN_REFUSED`},
	{"INVALID", "INVALID_ARGUMENT", `
		REQUEST_MALFORMED REQUEST_INVALID INTENT_NAME_INVALID INTENT_RESOURCE_INVALID INTENT_PARAMETERS_SYNTAX
		INTENT_PARAMETERS_NUMBER INTENT_PARAMETERS_NULL INTENT_PARAMETERS_DUPLICATE INTENT_PARAMETERS_SIZE
		INTENT_PARAMETERS_TEXT CREDENTIAL_TOO_LARGE`},
	{"DENIED", "PERMISSION_DENIED", `
		PRINCIPAL_UNKNOWN PERSON_UNKNOWN AGENT_WITHOUT_OWNER ACTION_UNKNOWN AUDIENCE_UNKNOWN RESOURCE_TYPE_UNKNOWN
		RESOURCE_SET_UNKNOWN RESOURCE_SET_REFUSED PARAMETERS_REFUSED PURPOSE_REFUSED TENANT_REQUIRED TENANT_REFUSED
		POLICY_FORBIDDEN POLICY_NOT_PERMITTED POLICY_ERROR SCOPE_EMPTY AGENT_REVOKED TENANT_REVOKED POLICY_REVOKED
		TASK_REVOKED TASK_TYPE_REFUSED TASK_BOUNDARY_EXCEEDED TASK_BOUNDARY_WIDER CREDENTIAL_REVOKED STREAM_REFUSED OVERRIDE_IN_FORCE
		APPROVAL_DENIED APPROVAL_MISMATCH APPROVER_REFUSED BYPASS_REFUSED CREDENTIAL_SPENT
		LIMIT_REACHED LIMIT_AMOUNT_REFUSED DUTY_SEPARATED SEQUENCE_REFUSED`},
	{"UNMET", "FAILED_PRECONDITION", `
		STEP_UP_REQUIRED TASK_REQUIRED TASK_ENDED TASK_DEADLINE_PASSED TASK_DEADLINE_REFUSED
		TASK_TYPE_REQUIRED TASK_HEARTBEAT_MISSED TASK_BOUNDARY_CHANGED LIFETIME_EXHAUSTED SEQUENCE_CHANGED
		KEY_NOT_READY SECOND_PERSON_REQUIRED TASK_SUSPENDED TASK_NOT_SUSPENDED
		APPROVAL_PENDING APPROVAL_EXPIRED APPROVAL_WITHDRAWN APPROVAL_USED AUTHENTICATION_STALE`},
	{"UNKNOWN", "NOT_FOUND", `
		TASK_UNKNOWN CREDENTIAL_UNKNOWN REVOCATION_UNKNOWN REVOCATION_TARGET_UNKNOWN KEY_UNKNOWN OVERRIDE_UNKNOWN
		APPROVAL_UNKNOWN USE_UNKNOWN`},
	{"CONFLICT", "ALREADY_EXISTS", `
		REQUEST_ID_REUSED REDEMPTION_NOT_NEEDED REPORT_ID_REUSED OUTCOME_CONTRADICTED`},
	{"OUT_OF_RANGE", "OUT_OF_RANGE", `
		CURSOR_MALFORMED CURSOR_TAMPERED CURSOR_FOREIGN CURSOR_FROM_THE_FUTURE CURSOR_TOO_OLD`},
	{"EXHAUSTED", "RESOURCE_EXHAUSTED", `LIMIT_STREAM_ITEMS LIMIT_BUSY LIMIT_APPROVALS`},
	{"UNAVAILABLE", "UNAVAILABLE", `
		AUDIT_UNAVAILABLE TRUST_UNAVAILABLE IDENTITY_UNAVAILABLE POLICY_UNAVAILABLE SIGNING_UNAVAILABLE ISSUER_UNAVAILABLE
		REDEMPTION_UNAVAILABLE`},
	{"UNAVAILABLE", "INTERNAL", `INTERNAL`},
	{"TOKEN", "PERMISSION_DENIED", `
		TOKEN_MISSING TOKEN_MALFORMED TOKEN_KEY_UNKNOWN KEY_SET_INVALID TOKEN_SIGNATURE_INVALID TOKEN_CLAIMS_REFUSED
		TOKEN_ISSUER_REFUSED TOKEN_AUDIENCE_REFUSED TOKEN_EXPIRED TOKEN_NOT_YET_VALID TOKEN_HOLDER_MISMATCH
		TOKEN_TENANT_MISMATCH TOKEN_SCOPE_EXCEEDED TOKEN_USE_REFUSED TOKEN_REVOKED CALL_UNMAPPED VIEW_STALE`},
}

func reasonVectors() pairs {
	var vectors []pairs
	seen := map[string]bool{}
	for _, each := range reasons {
		for _, name := range strings.Fields(each.names) {
			require(!seen[name], name+" once")
			seen[name] = true
			vectors = append(vectors, pairs{"reason", name, "category", each.category, "code", each.code})
		}
	}
	return pairs{"format", "docs/reasons.md", "domain", "broker.v1", "reasons", vectors, "status", statusVector()}
}

// statusVector is a google.rpc.Status as a refusal travels: code, message, ErrorInfo, LocalizedMessage. The entries of
// ErrorInfo's map may come in any order, so that it is compared by what it says.
func statusVector() pairs {
	const (
		sentence = "I may not refund more than 50 €."
		nextStep = "A forbid policy applies; its id is in the metadata."
		policies = "refunds-are-limited,two"
	)
	entry := func(name, value string) []byte { return content(3, text(1, name), text(2, value)) }
	packed := func(kind string, parts ...[]byte) []byte {
		return content(3, text(1, "type.googleapis.com/google.rpc."+kind), content(2, parts...))
	}
	info := packed("ErrorInfo", text(1, "POLICY_FORBIDDEN"), text(2, "broker.v1"), entry("decision_id", decisionID),
		entry("policy_ids", policies), entry("detail", "amount"), entry("next_step", nextStep), entry("request", requestID))
	localized := packed("LocalizedMessage", text(1, "en"), text(2, sentence))
	return pairs{
		"reason", "POLICY_FORBIDDEN", "detail", "amount", "policy_ids", strings.Split(policies, ","),
		"decision_id", decisionID, "sentence", sentence, "request", requestID,
		"bytes", hex.EncodeToString(join(number(1, 7), text(2, nextStep+" (amount)"), info, localized)),
	}
}
