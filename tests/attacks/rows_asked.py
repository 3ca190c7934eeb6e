"""Attacks on what is asked for and given: exchanges, tasks, approvals, intents."""

from typing import Final

from tests.attacks.row import Row, row

_NO_DELEGATION: Final = "an agent cannot hand on what it was given: there is no delegation yet"
_SVIDS: Final = "attacks/test_svids.py::test_a_bad_svid_is_refused_at_every_entrance"
_VERIFY: Final = "unit/credential/test_verify.py"

ASKED: Final[tuple[Row, ...]] = (
    # exchanges and tasks
    row("A1", "A weak agent has a strong one ask in its place", waits=_NO_DELEGATION),
    row(
        "A2",
        "Asking again for more than was asked, allowed, or held before",
        "properties/test_never_wider.py::test_never_wider_than_asked_than_allowed_or_than_what_came_before",
        "unit/policy/test_decide.py::test_terms_are_the_tightest_of_all_and_never_wider_than_asked",
        "operations/test_task_boundary.py::test_a_task_is_never_widened",
    ),
    row("A3", "Rights that grow along a chain of agents", waits=_NO_DELEGATION),
    row("A4", "A chain of agents that is cut short or made up", waits=_NO_DELEGATION),
    row(
        "A5",
        "Something ends, and what hung on it lives on (of a task; chains of agents wait for delegation)",
        "attacks/test_task_races.py::test_no_credential_outlives_its_task",
        "operations/test_task_boundary.py::test_ending_while_exchanging_leaves_no_live_credential",
        "operations/test_revocation.py::test_a_revocation_crossing_grants_leaves_none_alive",
    ),
    row(
        "A6",
        "A stolen credential in other hands, or after its holder's renewal",
        "attacks/test_tokens.py::test_a6_a_stolen_credential_is_nothing_in_other_hands",
        "attacks/test_tokens.py::test_a6_a_credential_stays_with_the_leaf_that_asked",
        "validator/test_interceptor.py::test_a6_a_stolen_token_is_refused_for_its_key",
        "validator/test_asgi.py::test_a6_a_stolen_token_is_refused_with_any_other_leaf",
    ),
    row(
        "A7",
        "One kind of signed thing shown as another",
        "attacks/test_mixups.py::test_a7_nothing_else_that_is_signed_is_a_credential",
        "attacks/test_mixups.py::test_a7_a_credential_is_no_cursor_and_one_streams_cursor_is_not_anothers",
        "attacks/test_mixups.py::test_a7_a_credential_lets_nobody_into_the_broker",
        "unit/person/test_identity_token.py::test_a7_a_credential_of_the_broker_is_no_identity_token",
        f"{_VERIFY}::test_a7_each_of_type_issuer_and_audience_alone_is_enough",
    ),
    row(
        "A8",
        "A task that has ended, another agent's task, ending twice, ending while exchanging",
        "operations/test_task.py::test_an_ended_task_gives_nothing_and_cannot_end_twice",
        "operations/test_task.py::test_a_task_is_its_agents_own",
        "operations/test_task_boundary.py::test_a_task_is_its_agents_own_at_every_verb",
        "attacks/test_tenants.py::test_what_is_theirs_is_as_good_as_nothing",
        "attacks/test_task_races.py::test_no_credential_outlives_its_task",
    ),
    row("A9", "A JWT-SVID played twice", waits="nobody logs in with a JWT-SVID yet: X.509 only"),
    row(
        "A10",
        "A rule that one entrance forgets",
        "attacks/test_matrix.py::test_a10_who_is_not_in_the_bundle_gets_nothing_anywhere",
        "attacks/test_matrix.py::test_a10_a_revoked_agent_gets_nothing_anywhere",
        "attacks/test_overrides.py::test_a_stopped_agent_is_refused_at_every_entrance",
        "attacks/test_overrides.py::test_every_rpc_is_held_to_the_overrides",
        "attacks/test_tenants.py::test_every_field_of_every_request_has_its_row_or_its_reason",
        _SVIDS,
    ),
    row(
        "A11",
        "Two thefts that were in the news, replayed and counted",
        "attacks/test_thefts.py::test_a11_tokens_of_an_integration_used_from_elsewhere",
        "attacks/test_thefts.py::test_a11_credentials_found_in_tickets_used_against_everything",
    ),
    # approvals
    row(
        "B1",
        "An approval shown with other parameters, another task, another agent, another spelling",
        "operations/test_approval.py::test_an_approval_is_for_one_intent_byte_for_byte",
        "operations/test_approval.py::test_nor_is_it_for_another_task_or_agent",
        "operations/test_approval.py::test_only_another_spelling_of_the_same_is_the_same",
    ),
    row(
        "B2",
        "An approval used twice, or a hundred times at once",
        "operations/test_approval.py::test_what_is_approved_is_given_once",
        "operations/test_approval.py::test_a_hundred_at_once_give_one_credential",
        "operations/test_customers.py::test_one_token_a_hundred_times_at_once_gives_one_credential",
    ),
    row(
        "B3",
        "Something changes between approval and use",
        "operations/test_approval.py::test_what_changed_between_approval_and_use_wins",
        "operations/test_approval.py::test_answers_and_uses_race",
    ),
    row(
        "B4",
        "Who must not approves: the agent, whoever asked, one person twice, another tenant's",
        "operations/test_approval_people.py::test_no_agent_approves_whatever_token_it_has",
        "operations/test_approval_people.py::test_who_does_not_count_is_refused",
        "operations/test_approval_people.py::test_one_person_with_two_identities_counts_once",
        "operations/test_approval_people.py::test_what_is_another_tenants_is_as_if_it_were_not_there",
        "attacks/test_identity_tokens.py::test_a_forged_token_opens_no_entrance_and_is_recorded",
        "attacks/test_identity_tokens.py::test_a_person_of_another_tenant_or_group_approves_nothing",
        "operations/test_drifted.py::test_who_may_not_let_it_go_on",
        "operations/test_drifted.py::test_no_policy_lets_those_go_on_whom_it_is_about",
    ),
    row(
        "B5",
        "An intent that looks like another one to whoever approves it",
        "operations/test_approval.py::test_one_changed_byte_of_the_digest_approves_nothing",
        "unit/test_visible.py::test_what_hides_or_misleads_is_written_out",
        "unit/test_visible.py::test_ten_thousand_lines_are_one",
    ),
    row(
        "B6",
        "A flood of requests for approval",
        "operations/test_approval.py::test_a_flood_leaves_the_oldest_and_goes_no_further",
        "operations/test_approval.py::test_pages_are_whole_and_nobodys_else",
        "operations/test_drifted.py::test_a_flood_hides_nothing",
    ),
    row(
        "B7",
        "A customer's token beyond the customer's own: another's, a group's, another chat's, a thief's",
        "operations/test_customers.py::test_what_another_token_or_another_hand_is_worth",
        "operations/test_customers.py::test_a_customer_never_answers_for_a_group",
        "operations/test_customers.py::test_each_tenants_customers_have_what_is_theirs",
        "operations/test_customers.py::test_a_yes_in_one_conversation_is_none_in_another",
        "operations/test_customers.py::test_a_fresh_authentication_is_fresh",
        "attacks/test_customer_tokens.py::test_nothing_but_her_own_over_her_own_chat",
    ),
    # what is asked
    row(
        "C1",
        "Duplicate keys, NaN, huge numbers, lone surrogates, depth, length",
        "attacks/test_intents.py::test_parameters_without_one_meaning",
        "unit/test_intent.py::test_parameters_without_one_meaning_are_refused",
        "fuzz/test_fuzz.py::test_what_was_kept_and_what_is_near_it",
    ),
    row(
        "C2",
        "Names that look the same and are not",
        "attacks/test_intents.py::test_text_that_could_be_read_as_a_rule_or_as_other_text",
        "unit/policy/test_decide.py::test_unicode_twins_are_two_names",
    ),
    row(
        "C3",
        "One request that two parsers read differently",
        "attacks/test_intents.py::test_c3_a_field_that_stands_twice_has_one_meaning",
        "unit/server/test_convert.py::test_an_unknown_field_is_refused_wherever_it_stands",
        "fuzz/test_fuzz.py::test_what_was_kept_and_what_is_near_it",
    ),
    row(
        "C4",
        "Values that hold a rule's syntax",
        "attacks/test_intents.py::test_c4_an_id_is_itself_and_no_pattern",
        "unit/policy/test_decide.py::test_a_parameter_is_never_read_as_an_entity",
        "unit/policy/test_decide.py::test_no_resource_id_matches_another",
        "attacks/test_texts.py::test_c4_what_moves_a_line_is_refused_in_every_field",
    ),
    row(
        "C5",
        "A policy that fails, is half written, or too deep to read",
        "unit/policy/test_decide.py::test_a_policy_that_fails_denies_even_when_another_permits",
        "unit/policy/test_source.py::test_a_bad_bundle_changes_nothing",
        "unit/policy/test_source.py::test_files_that_change_while_they_are_read_are_not_taken",
        "unit/policy/test_depth.py::test_what_nests_too_deeply_is_refused_and_nobody_dies",
    ),
)
