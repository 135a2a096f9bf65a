"""When things happen next: pure decisions on times, and all intervals and time-outs in one place."""

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta


@dataclass(frozen=True, slots=True, kw_only=True)
class Patience:
    """Every interval and time-out of the bot, in seconds. The defaults are for production."""

    poll_s: float = 2.0
    """Base interval of the grid on which runs are polled."""
    poll_slowest_s: float = 30.0
    poll_person_s: float = 300.0
    """Slowest interval for a run that waits for a person."""
    poll_ended_s: float = 86400.0
    """How long a lost or failed run is still looked at, in case it comes back."""
    rest_s: float = 3600.0
    """A run that answered and asked nothing is no longer polled after this; a reply or a click wakes it."""
    poll_eager_s: float = 60.0
    """How long a run is polled on every step after its start and after news."""
    look_around_s: float = 5.0
    """How often each loop looks at the tables by itself, whatever events said."""
    retry_first_s: float = 1.0
    retry_slowest_s: float = 60.0
    slack_timeout_s: float = 15.0
    file_timeout_s: float = 30.0
    """How long one file may take to come, and as long again to be read if it is a document."""
    files_wait_s: float = 120.0
    """How long a message waits for files that Slack does not give out; then it goes without them."""
    openhands_timeout_s: float = 30.0
    probe_s: float = 3.0
    """How long the bot's start waits for OpenHands to accept the key; after that it answers Slack anyway."""
    lookup_s: float = 5.0
    """How long a request waits, in all, until the repositories it names were looked up."""
    send_timeout_s: float = 40.0
    """The server itself gives up on a message after 30 s."""
    openhands_calls_per_s: float = 8.0
    """Below the 10 that servers allow."""
    start_lookups_s: tuple[float, ...] = (2.0, 5.0, 10.0, 20.0, 30.0)
    """Pauses between look-ups of a start whose answer was lost."""
    start_settled_s: float = 60.0
    """A start that is not found by then never arrived: what arrives is listed within a second."""
    start_stuck_s: float = 600.0
    """A start task without news for this long has failed: a server that restarts leaves it as it was."""
    heard_settled_s: float = 35.0
    """A message did not arrive if it is not among the events and the run has not been running for this long."""
    full_s: float = 30.0
    """Pause between two tries to start while the account has no free slot."""
    stale_request_s: float = 3600.0
    """A request older than this is asked about, not done."""
    question_s: float = 7 * 86400.0
    """How long the bot's own question before a start stays open."""
    decision_settled_s: float = 3.0
    """A decision shows its effect by then; an action that still waits never got it."""
    quiet_shown_s: float = 1200.0
    """After this long without anything new of a run at work, its card says so."""
    stale_s: float = 12 * 3600.0
    """People are told once of a run at work that has shown nothing new for this long."""
    unsure_person_s: float = 600.0
    """After this long in doubt, a person is asked."""
    unreachable_shown_s: float = 60.0
    """After this long, cards say that OpenHands can't be reached."""
    post_settled_s: float = 3.0
    """A post whose answer was lost is searched for again after this, before it is repeated."""
    card_gap_s: float = 3.0
    """Pause between two edits of one card."""
    position_gap_s: float = 60.0
    """The same before an edit that shows nothing but another position in the queue."""
    final_gap_s: float = 1.0
    """The same before an edit that shows a final state or one in which a person must look."""
    facts_person_s: float = 600.0
    context_s: float = 120.0
    """How long a request waits to find out who made it."""
    facts_cache_s: float = 300.0
    reaction_stale_s: float = 300.0
    """A reaction that is not given by then says nothing new."""
    answer_stale_s: float = 1500.0
    """How long an answer that only one person sees can be sent; Slack accepts it for 30 minutes."""
    drain_s: float = 10.0
    ping_s: float = 10.0
    """A socket that was silent for this long is pinged, and given up after half of that time more."""
    keep_keys_s: float = 7 * 86400.0
    """How long the key of a finished request is kept, to recognise late repeats."""
    keep_runs_s: float = 90 * 86400.0
    """How long a run without news is kept once it is over; 0 keeps all."""
    socket_again_s: float = 1.0
    """First pause of the backoff, up to `retry_slowest_s`, after a socket that did not last or was refused."""
    socket_proven_s: float = 5.0
    """A socket that stays open this long ends that backoff."""
    handover_s: float = 30.0
    """How long a socket that has a successor stays open, in case Slack still sends something on it."""
    heard_mark_s: float = 30.0
    """How often the watermark is written: the time until which everything arrived."""
    heard_settle_s: float = 3.0
    """How long after its end a gap is read back: a connection or process that comes and goes costs no calls."""
    heard_hold_s: float = 300.0
    """Replies wait no longer than this for older ones that may be unread; a hundred threads are read by then."""
    heard_margin_s: float = 120.0
    """Reading back begins this much earlier: clocks differ by up to a minute, and Slack takes a moment to deliver."""
    heard_back_s: float = 6 * 86400.0
    """Nothing older is read back: once keys are forgotten, a repeat would not be recognised."""
    heard_calls: int = 100
    """Maximum number of pages of threads, of places, and of the list of places that are read after one gap."""
    heard_pace: int = 20
    """Calls of one method a minute for reading back; Slack allows 50, and others need some too."""


def later(now: datetime, seconds: float) -> datetime:
    return now + timedelta(seconds=seconds)


def retry_at(attempts: int, now: datetime, patience: Patience) -> datetime:
    """Return when to retry a row that failed `attempts` times (1 or more): exponential backoff, up to a limit."""
    pause = min(patience.retry_slowest_s, patience.retry_first_s * 2 ** min(attempts - 1, 16))
    return later(now, pause)


def asked_to_wait(retry_after_s: float, now: datetime, patience: Patience) -> datetime:
    """Return when to retry a rate-limited call: as asked, but after a pause even if none was asked for."""
    return later(now, max(retry_after_s, patience.retry_first_s))


EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def on_grid(now: datetime, step_s: float) -> datetime:
    """Return the first point after `now` on the grid of `step_s`, which is the same for all runs."""
    step = timedelta(seconds=step_s)  # counted in microseconds: a fraction of seconds would round to the same moment
    return EPOCH + ((now - EPOCH) // step + 1) * step


def poll_at(now: datetime, *, news_at: datetime, person: bool, patience: Patience) -> datetime:
    """Return when a live run is polled next.

    It is polled on every step while its news is fresh, then on every 2nd, 4th, … step as the news ages, so that the
    pause stays a small part of the age. All steps are doublings of one base on one grid, so runs share their requests.
    person: the run waits for somebody, so nothing is expected soon.
    """
    age_s = (now - news_at).total_seconds()
    slowest_s = patience.poll_person_s if person else patience.poll_slowest_s
    step_s = patience.poll_s
    allowed_s = patience.poll_s * age_s / patience.poll_eager_s
    while step_s < slowest_s and step_s * 2 <= allowed_s:
        step_s *= 2
    return on_grid(now, min(step_s, max(slowest_s, patience.poll_s)))


def poll_ended_at(now: datetime, *, ended_at: datetime, patience: Patience) -> datetime | None:
    """Return when a lost or failed run is polled next: every few minutes, then more and more rarely; None at last."""
    age_s = (now - ended_at).total_seconds()
    if age_s >= patience.poll_ended_s:
        return None
    step_s = patience.poll_person_s
    while step_s * 8 <= age_s:
        step_s *= 2
    return on_grid(now, step_s)
