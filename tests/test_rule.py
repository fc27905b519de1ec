"""The words and the rule, one consequence a test: `ledger.consent` is what every faster path is held to."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from ledger.consent import (
    ALL_PURPOSES,
    ALLOWED,
    NO,
    REASONS,
    STATES,
    YES,
    Event,
    Purpose,
    Row,
    Scope,
    check_against,
    check_id,
    check_text,
    decide,
    lookalike,
    resolve_purposes,
    split_purpose,
)
from ledger.errors import InvalidEvent

T0 = datetime(2026, 1, 1, tzinfo=UTC)
DIGEST = "ab" * 32


def day(n: float) -> datetime:
    return T0 + timedelta(days=n)


def yes(
    n: float, *, recorded: float | None = None, subject: str = "ann", purposes: tuple[str, ...] = ("ai@1",), **fields: Any
) -> Event:
    return Event(
        **{
            "state": "given",
            "subject_id": subject,
            "purposes": purposes,
            "occurred_at": day(n),
            "recorded_at": day(n if recorded is None else recorded),
            **fields,
        }
    )


def no(
    n: float | None,
    *,
    recorded: float | None = None,
    subject: str = "ann",
    state: str = "withdrawn",
    purposes: tuple[str, ...] = ("ai@1",),
    **fields: Any,
) -> Event:
    at = recorded if recorded is not None else n
    assert at is not None
    return Event(
        state=state,
        subject_id=subject,
        purposes=purposes,
        occurred_at=None if n is None else day(n),
        recorded_at=day(at),
        **fields,
    )


def purpose(**fields: Any) -> Purpose:
    return Purpose(**{"token": "ai", "version": 1, "title": "t", "description": "d", **fields})


def ask(
    *history: Event,
    subjects: tuple[str | None, ...] = ("ann",),
    category: str | None = "post",
    content: str | None = "c1",
    created: float | None = 0,
    at: float = 100,
    judged: float | None = None,
    of: Purpose | None = None,
) -> str:
    row = Row(subjects, category, content, None if created is None else day(created))
    return decide(row, history, of or purpose(), day(at), None if judged is None else day(judged))


# What is allowed


def test_silence_is_no() -> None:
    assert ask() == "no_record"


@pytest.mark.parametrize("scope", [{}, {"category": "post"}, {"content_id": "c1"}])
@pytest.mark.parametrize("state", YES)
def test_a_yes_of_any_scope_that_matches_allows(scope: dict[str, str], state: str) -> None:
    assert ask(yes(1, state=state, **scope)) == ALLOWED


@pytest.mark.parametrize(
    "scope",
    [
        {"category": "photo"},
        {"content_id": "c2"},
        {"subject": "bob"},
        {"subject": "Ann"},
        {"subject": "ann "},
        {"purposes": ("other@1",)},
    ],
)
def test_a_yes_that_speaks_of_something_else_allows_nothing(scope: dict[str, Any]) -> None:
    assert ask(yes(1, **scope)) == "no_record"


@pytest.mark.parametrize("scope", [{"category": "photo"}, {"content_id": "c2"}, {"subject": "bob"}, {"purposes": ("other@1",)}])
def test_a_no_that_speaks_of_something_else_denies_nothing(scope: dict[str, Any]) -> None:
    assert ask(yes(1), no(2, **scope)) == ALLOWED


def test_a_no_to_all_purposes_is_one_to_this_purpose() -> None:
    assert ask(yes(1), no(2, purposes=(ALL_PURPOSES,))) == "withdrawn"


def test_a_no_speaks_of_every_version_of_its_purpose() -> None:
    assert ask(yes(1, purposes=("ai@2",)), no(2, purposes=("ai@1",)), of=purpose(version=2)) == "withdrawn"


# A no stands until it is answered


@pytest.mark.parametrize("state", NO)
def test_a_no_stands_and_its_state_is_the_reason(state: str) -> None:
    assert ask(yes(1), no(2, state=state)) == state


@pytest.mark.parametrize("scope", [{}, {"category": "post"}, {"content_id": "c1"}])
def test_a_later_yes_as_specific_answers_a_no(scope: dict[str, str]) -> None:
    assert ask(no(1, **scope), yes(2, **scope)) == ALLOWED


@pytest.mark.parametrize("finer", [{"category": "post"}, {"content_id": "c1"}])
def test_a_later_yes_that_is_more_specific_answers_for_what_it_speaks_of(finer: dict[str, str]) -> None:
    history = no(1), yes(2, **finer)
    assert ask(*history) == ALLOWED
    assert ask(*history, category="photo", content="c2") == "withdrawn"


def test_an_account_wide_withdrawal_closes_every_earlier_item_level_yes() -> None:
    assert ask(yes(1, content_id="c1"), yes(2, category="post"), no(3)) == "withdrawn"


@pytest.mark.parametrize("finer", [{"category": "post"}, {"content_id": "c1"}])
def test_an_item_level_no_survives_a_later_account_wide_yes(finer: dict[str, str]) -> None:
    history = no(1, **finer), yes(2)
    assert ask(*history) == "withdrawn"
    assert ask(*history, category="photo", content="c2") == ALLOWED


def test_a_content_no_survives_a_later_category_yes() -> None:
    assert ask(no(1, content_id="c1"), yes(2, category="post")) == "withdrawn"


def test_every_no_needs_its_answer() -> None:
    history = no(1), no(1, content_id="c1"), yes(2)
    assert ask(*history) == "withdrawn"
    assert ask(*history, yes(3, content_id="c1")) == ALLOWED


@pytest.mark.parametrize("turn", [1, -1])
def test_a_tie_is_a_no_whichever_was_recorded_first(turn: int) -> None:
    assert ask(*[yes(1), no(1)][::turn]) == "withdrawn"


def test_the_latest_standing_no_names_the_reason_then_the_finer_then_the_later_recorded() -> None:
    assert ask(no(2, state="objected"), no(1, state="refused", content_id="c1")) == "objected"
    finest, finer = no(1, state="refused", content_id="c1"), no(1, state="revoked", category="post")
    widest = no(1, state="objected")
    assert ask(finest, finer, widest) == "refused"
    assert ask(finer, widest) == "revoked"
    assert ask(no(1, state="objected"), no(1, state="revoked")) == "revoked"
    assert ask(no(3, state="objected"), no(2, state="refused", content_id="c1"), yes(4)) == "refused"


# When


def test_an_event_counts_from_the_earlier_of_the_act_and_its_recording() -> None:
    assert no(None, recorded=5).counts_from == day(5)
    assert no(9, recorded=5).counts_from == day(5)
    assert no(2, recorded=5).counts_from == day(2)


def test_a_yes_that_arrives_late_answers_nothing_newer_than_itself() -> None:
    assert ask(no(2), yes(1, recorded=9)) == "withdrawn"


def test_a_no_dated_ahead_counts_from_its_recording() -> None:
    assert ask(yes(1), no(50, recorded=2), at=3) == "withdrawn"


def test_events_count_up_to_the_moment_asked_about() -> None:
    assert ask(yes(5), at=4) == "no_record"
    assert ask(yes(5), at=5) == ALLOWED
    assert ask(yes(1), no(5), at=4) == ALLOWED


# The terms of a yes


def test_a_yes_is_over_from_the_moment_it_expires() -> None:
    history = yes(1, expires_at=day(10))
    assert ask(history, at=9.9) == ALLOWED
    assert ask(history, at=10) == "expired"


def test_expiry_is_judged_when_the_run_decides_not_when_the_answers_were_frozen() -> None:
    assert ask(yes(1, expires_at=day(10)), at=5, judged=10) == "expired"


def test_when_the_yes_that_answered_a_no_runs_out_the_no_stands_again() -> None:
    history = no(1), yes(2, expires_at=day(10))
    assert ask(*history, at=9) == ALLOWED
    assert ask(*history, at=10) == "withdrawn"


def test_a_renewed_yes_with_an_end_replaces_one_without() -> None:
    assert ask(yes(1), yes(2, state="renewed", expires_at=day(10)), at=11) == "expired"


def test_a_renewed_yes_without_an_end_replaces_one_with() -> None:
    assert ask(yes(1, expires_at=day(10)), yes(2, state="renewed"), at=11) == ALLOWED


def test_of_two_yeses_at_one_moment_the_later_in_the_log_counts() -> None:
    endless, ending = yes(1), yes(1, expires_at=day(10))
    assert ask(endless, ending, at=11) == "expired"
    assert ask(ending, endless, at=11) == ALLOWED


def test_a_yes_recorded_later_but_given_earlier_replaces_nothing() -> None:
    assert ask(yes(2, expires_at=day(10)), yes(1, recorded=3), at=11) == "expired"


def test_a_yes_replaces_only_those_of_its_own_scope() -> None:
    assert ask(yes(1), yes(2, content_id="c1", expires_at=day(10)), at=11) == ALLOWED


def test_from_now_on_and_not_my_past() -> None:
    history = yes(5, content_since=day(5))
    assert ask(history, created=5) == ALLOWED
    assert ask(history, created=4.99) == "not_covered"
    assert ask(history, created=None) == "not_covered"


def test_a_yes_with_content_since_answers_a_no_only_for_newer_content() -> None:
    history = yes(1), no(2), yes(5, content_since=day(5))
    assert ask(*history, created=6) == ALLOWED
    assert ask(*history, created=1) == "withdrawn"


def test_a_yes_to_another_version_does_not_count_unless_it_was_declared_compatible() -> None:
    assert ask(yes(1), of=purpose(version=2)) == "notice_changed"
    assert ask(yes(1), of=purpose(version=2, accepts=(1,))) == ALLOWED
    assert ask(yes(1, purposes=("ai@2",)), of=purpose()) == "notice_changed"
    assert ask(yes(1, purposes=("ai",)), of=purpose()) == "notice_changed"


def test_a_no_is_not_answered_by_a_yes_to_another_version() -> None:
    assert ask(no(1), yes(2), of=purpose(version=2)) == "withdrawn"


def test_of_several_failures_the_first_of_the_order_is_the_reason() -> None:
    aged, other = yes(1, content_since=day(50)), yes(1, purposes=("ai@2",), category="post")
    over = yes(1, expires_at=day(2), content_id="c1")
    assert ask(over) == "expired"
    assert ask(over, other) == "notice_changed"
    assert ask(over, other, aged) == "not_covered"


# Rows


@pytest.mark.parametrize("subjects", [(), (None,), ("",), ("ann", None), ("ann", "")])
def test_a_row_without_all_of_its_subjects_is_denied(subjects: tuple[str | None, ...]) -> None:
    assert ask(yes(1), subjects=subjects) == "subject_missing"


def test_every_subject_must_allow_and_the_first_that_does_not_names_the_reason() -> None:
    history = yes(1), yes(1, subject="bob"), no(1, subject="cyd", state="objected")
    assert ask(*history, subjects=("ann", "bob")) == ALLOWED
    assert ask(*history, subjects=("ann", "ann")) == ALLOWED
    assert ask(*history, subjects=("ann", "dan", "cyd")) == "no_record"
    assert ask(*history, subjects=("ann", "cyd", "dan")) == "objected"


@pytest.mark.parametrize("category", ["photo", "Post", "post ", "", None])
def test_a_purpose_that_lists_categories_allows_no_other(category: str | None) -> None:
    assert ask(yes(1), category=category, of=purpose(categories=["post"])) == "category_excluded"


def test_a_missing_subject_comes_before_an_excluded_category_and_that_before_a_no() -> None:
    lists = purpose(categories=["post"])
    assert ask(subjects=(None,), category="photo", of=lists) == "subject_missing"
    assert ask(no(1), category="photo", of=lists) == "category_excluded"
    assert ask(yes(1), of=lists) == ALLOWED


@pytest.mark.parametrize("unknown", [None, ""])
def test_an_unknown_item_is_held_to_every_item_level_no(unknown: str | None) -> None:
    history = yes(1), no(2, content_id="c7")
    assert ask(*history, content="c1") == ALLOWED
    assert ask(*history, content=unknown) == "withdrawn"
    assert ask(*history, yes(3), content=unknown) == "withdrawn"
    assert ask(*history, yes(3, content_id="c1"), content=unknown) == "withdrawn"
    assert ask(*history, yes(3, content_id="c7"), content=unknown) == ALLOWED


@pytest.mark.parametrize("unknown", [None, ""])
def test_an_unknown_category_is_held_to_every_category_level_no(unknown: str | None) -> None:
    history = yes(1), no(2, category="photo")
    assert ask(*history, category="post") == ALLOWED
    assert ask(*history, category=unknown) == "withdrawn"
    assert ask(*history, yes(3, content_id="c1"), category=unknown) == "withdrawn"
    assert ask(*history, yes(3, category="photo"), category=unknown) == ALLOWED


@pytest.mark.parametrize("terms", [{"content_since": day(-9)}, {"expires_at": day(10)}, {"purposes": ("ai@2",)}])
def test_of_an_unknown_item_a_no_is_answered_only_by_a_yes_in_force_for_all_content(terms: dict[str, Any]) -> None:
    assert ask(yes(1), no(2, content_id="c7"), yes(3, content_id="c7", **terms), content=None, created=50) == "withdrawn"


def test_finer_yeses_count_for_nothing_where_the_item_or_category_is_unknown() -> None:
    assert ask(yes(1, content_id="c1"), content=None) == "no_record"
    assert ask(yes(1, category="post"), category=None) == "no_record"


def test_reasons_begin_with_allowed_and_name_every_no() -> None:
    assert REASONS[0] == ALLOWED and set(NO) < set(REASONS) and len(set(REASONS)) == len(REASONS)


# Events


def test_an_event_knows_its_scope() -> None:
    assert yes(1).scope is Scope.EVERYTHING
    assert yes(1, category="k").scope is Scope.CATEGORY
    assert yes(1, content_id="c").scope is Scope.CONTENT
    assert Scope.EVERYTHING < Scope.CATEGORY < Scope.CONTENT


def test_an_event_sorts_its_purposes_and_names_each_once() -> None:
    event = yes(1, purposes=("b@1", "ai@1", "b@1"))
    assert event.purposes == ("ai@1", "b@1")
    assert event.names("ai") and event.names("b") and not event.names("a")
    assert no(1, purposes=(ALL_PURPOSES,)).names("anything")


GOOD: dict[str, Any] = {"state": "given", "subject_id": "ann", "purposes": ["ai"], "occurred_at": T0}


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"state": "maybe"}, "state 'maybe' is unknown"),
        ({"state": None}, "state None is unknown"),
        ({"subject_id": ""}, "subject_id is empty"),
        ({"subject_id": None}, "subject_id must be text, not NoneType"),
        ({"subject_id": 7}, "subject_id must be text, not int"),
        ({"subject_id": "a\0b"}, "subject_id holds a NUL"),
        ({"subject_id": "é" * 257}, "subject_id is longer than 512 bytes"),
        ({"subject_id": "\ud800"}, "subject_id holds a lone surrogate, which is no text"),
        ({"category": ""}, "category is empty"),
        ({"content_id": ""}, "content_id is empty"),
        ({"event_id": ""}, "event_id is empty"),
        ({"channel": ""}, "channel must be text, and not empty"),
        ({"notice": 3}, "notice must be text, and not empty"),
        ({"jurisdiction": ""}, "jurisdiction must be text, and not empty"),
        ({"reason": "x" * 4097}, "reason is longer than 4096 bytes"),
        ({"recorded_by": "\udfff"}, "recorded_by holds a lone surrogate, which is no text"),
        ({"evidence_sha256": DIGEST.upper()}, "evidence_sha256 is not 64 lower-case hexadecimal digits"),
        ({"evidence_sha256": 5}, "evidence_sha256 is not 64 lower-case hexadecimal digits"),
        ({"notice_sha256": "ab"}, "notice_sha256 is not 64 lower-case hexadecimal digits"),
        ({"actor": "bot"}, "actor 'bot' is unknown"),
        ({"purposes": []}, "purposes must be a list that names at least one purpose"),
        ({"purposes": "ai"}, "purposes must be a list that names at least one purpose"),
        ({"purposes": [""]}, "purpose is empty"),
        ({"category": "post", "content_id": "c1"}, "an event speaks of a category or of one content item, not of both"),
        ({"occurred_at": datetime(2026, 1, 1)}, "occurred_at must be a datetime with a time zone"),
        ({"recorded_at": "2026-01-01T00:00:00Z"}, "recorded_at must be a datetime with a time zone"),
        ({"expires_at": 5}, "expires_at must be a datetime with a time zone"),
        ({"content_since": datetime(2026, 1, 1)}, "content_since must be a datetime with a time zone"),
        ({"purposes": ["*"]}, "`*` (all purposes) stands alone and is for a no only"),
        ({"state": "withdrawn", "purposes": ["*", "ai"]}, "`*` (all purposes) stands alone and is for a no only"),
        ({"state": "withdrawn", "expires_at": day(1)}, "expires_at and content_since are for a yes only: a no has no end"),
        ({"state": "refused", "content_since": day(1)}, "expires_at and content_since are for a yes only: a no has no end"),
        ({"occurred_at": None}, "a yes needs occurred_at: an undated yes is no yes"),
        ({"actor": "controller"}, "a yes comes from the subject or a guardian, not from 'controller'"),
        ({"actor": "authority"}, "a yes comes from the subject or a guardian, not from 'authority'"),
        ({"actor": "guardian", "evidence_sha256": DIGEST}, "a guardian's yes needs evidence and expires_at"),
        ({"actor": "guardian", "expires_at": day(1)}, "a guardian's yes needs evidence and expires_at"),
        ({"channel": "one-click"}, "one click can only say no"),
        ({"expires_at": T0}, "expires_at is not after occurred_at"),
    ],
)
def test_an_event_that_says_too_little_or_too_much_is_refused(wrong: dict[str, Any], message: str) -> None:
    with pytest.raises(InvalidEvent) as caught:
        Event(**{**GOOD, **wrong})
    assert str(caught.value).startswith(message)


@pytest.mark.parametrize(
    "fields",
    [
        {"actor": "guardian", "evidence_sha256": DIGEST, "expires_at": day(1)},
        {"subject_id": "é" * 256, "channel": "web", "notice": "n", "jurisdiction": "AT", "reason": "r", "notice_sha256": DIGEST},
        {"state": "revoked", "actor": "authority", "channel": "one-click", "occurred_at": None},
        {"state": "withdrawn", "purposes": ["*"]},
    ],
)
def test_an_event_that_says_what_it_must_is_taken(fields: dict[str, Any]) -> None:
    assert Event(**{**GOOD, **fields}).state in STATES


def test_ids_and_texts_are_checked_by_bytes() -> None:
    check_id("id", "x" * 512)
    check_text("text", "x" * 4096)
    with pytest.raises(InvalidEvent, match="longer"):
        check_id("id", "x" * 513)


# References


@pytest.mark.parametrize(
    ("reference", "parts"),
    [
        ("ai@2", ("ai", 2)),
        ("ai", ("ai", None)),
        ("a@b@10", ("a@b", 10)),
        ("ai@", ("ai@", None)),
        ("ai@02", ("ai@02", None)),
        ("ai@-1", ("ai@-1", None)),
        ("ai@²", ("ai@²", None)),
        ("ai@٢", ("ai@٢", None)),
        ("ai@0", ("ai@0", None)),
        ("*", ("*", None)),
    ],
)
def test_a_version_is_a_plain_positive_number(reference: str, parts: tuple[str, int | None]) -> None:
    assert split_purpose(reference) == parts


def test_lookalikes_differ_only_in_case_space_or_normalisation() -> None:
    assert lookalike(" Ann ") == lookalike("ann") != lookalike("anne")
    assert lookalike("Dé") == lookalike("de\u0301")


def test_a_purpose_accepts_itself_and_keeps_its_lists_in_order() -> None:
    third = purpose(version=3, accepts=[2], categories=["b", "a", "b"], recipients=["z", "y"])
    assert (third.accepts, third.categories, third.recipients, third.reference) == ((2, 3), ("a", "b"), ("z", "y"), "ai@3")


DECLARED = {"ai": [(day(0), purpose()), (day(10), purpose(version=2))], "other": [(day(5), purpose(token="other"))]}


@pytest.mark.parametrize(
    ("references", "acted", "expected"),
    [
        (["ai"], 9, ("ai@1",)),
        (["ai"], 10, ("ai@2",)),
        (["ai"], None, ("ai@2",)),
        (["ai"], -5, ("ai@1",)),
        (["ai@1"], 50, ("ai@1",)),
        (["ai@2"], -5, ("ai@2",)),
        (["*"], None, ("*",)),
        (["other", "ai", "ai@1"], 5, ("ai@1", "other@1")),
    ],
)
def test_a_purpose_without_a_version_means_the_one_that_stood(
    references: list[str], acted: float | None, expected: tuple[str, ...]
) -> None:
    assert resolve_purposes(references, DECLARED, None if acted is None else day(acted)) == expected


@pytest.mark.parametrize("reference", ["Ai", "ai@3", "ai@01", "ai@", "nothing", "nothing@1"])
def test_an_undeclared_purpose_or_version_is_refused_and_the_declared_ones_are_named(reference: str) -> None:
    with pytest.raises(InvalidEvent, match="is not declared") as caught:
        resolve_purposes([reference], DECLARED, None)
    assert caught.value.hint is not None and "ai@1, ai@2, other@1" in caught.value.hint


def test_where_nothing_is_declared_the_hint_says_so() -> None:
    with pytest.raises(InvalidEvent) as caught:
        resolve_purposes(["ai"], {}, None)
    assert caught.value.hint is not None and "none yet" in caught.value.hint


# What only a ledger can check

LISTED = {
    "ai": [(day(0), purpose(categories=["post", "caption"]))],
    "any": [(day(0), purpose(token="any"))],
    "both": [
        (day(0), purpose(token="both", categories=["photo"])),
        (day(1), purpose(token="both", version=2, categories=["video"])),
    ],
}


def test_a_yes_may_not_be_dated_ahead_and_a_no_may() -> None:
    check_against(yes(5), LISTED, day(5))
    check_against(no(6, recorded=5), LISTED, day(5))
    with pytest.raises(InvalidEvent, match="dated ahead of the ledger's clock"):
        check_against(yes(6), LISTED, day(5))


@pytest.mark.parametrize(
    ("category", "purposes"),
    [
        ("post", ("ai@1",)),
        ("whatever", ("any@1",)),
        ("whatever", ("ai@1", "any@1")),
        ("photo", ("both@2",)),
        ("video", ("both@1",)),
        ("whatever", ("*",)),
    ],
)
def test_a_category_that_a_purpose_uses_is_taken(category: str, purposes: tuple[str, ...]) -> None:
    check_against(no(1, category=category, purposes=purposes), LISTED, day(5))


@pytest.mark.parametrize("declared", [{k: LISTED[k] for k in ("ai", "both")}])
def test_a_category_that_no_purpose_lists_is_refused_and_the_listed_ones_are_named(declared: dict[str, Any]) -> None:
    for event, listed in (
        (no(1, category="posts"), "caption, post"),
        (yes(1, category="photo"), "caption, post"),
        (no(1, category="Photo", purposes=("*",)), "caption, photo, post, video"),
    ):
        with pytest.raises(InvalidEvent, match="is listed by no purpose of this event") as caught:
            check_against(event, declared, day(5))
        assert caught.value.hint == f"listed: {listed}"


def test_a_category_where_nothing_is_declared_is_refused() -> None:
    with pytest.raises(InvalidEvent) as caught:
        check_against(no(1, category="post", purposes=("*",)), {}, day(5))
    assert caught.value.hint == "listed: none"
