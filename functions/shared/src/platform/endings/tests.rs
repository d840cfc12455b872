use super::*;
use proptest::prelude::*;

/// The plainer forms that a post has at the most: an album's delivery methods.
const FORMS: u32 = 5;

/// Failures that a call meets one after the other, over and over.
fn outcomes() -> impl Strategy<Value = Vec<Outcome>> {
    let outcome = prop_oneof![
        3 => Just(Outcome::Unknown),
        2 => Just(Outcome::AnswerLost),
        2 => Just(Outcome::Refused),
        1 => Just(Outcome::OurFault),
    ];
    prop::collection::vec(outcome, 1..12)
}

fn duty() -> impl Strategy<Value = Duty> {
    prop::sample::select(Duty::VARIANTS)
}

/// A row whose calls fail in this order, for four days at the most. Returns the times of its calls in seconds, and true if it ended.
/// Each wait is as short as [`spread`] may make it.
fn endless_failure(duty: Duty, outcomes: &[Outcome], has_witness: bool) -> (Vec<f64>, bool) {
    let mut history = History { has_witness, ..History::default() };
    let (mut clock, mut calls, mut forms) = (0.0, Vec::new(), FORMS);
    for outcome in outcomes.iter().cycle() {
        if clock > 4.0 * DAY.as_secs_f64() {
            break;
        }
        calls.push(clock);
        history.failing_for = Duration::from_secs_f64(clock);
        match duty.after(*outcome, history) {
            Verdict::End => return (calls, true),
            Verdict::Plainer if forms == 0 => return (calls, true),
            Verdict::Plainer => forms -= 1,
            Verdict::Wait { wait, counts, .. } => {
                assert!(wait >= ORDERED.0, "{duty:?} waits {wait:?}");
                history.attempts += u32::from(counts);
                history.answers_lost += u32::from(counts && *outcome == Outcome::AnswerLost);
                clock += wait.as_secs_f64() * 0.8;
            }
        }
    }
    (calls, false)
}

fn within(calls: &[f64], seconds: f64) -> usize {
    let from = |start: &f64| calls.iter().filter(|call| (*start..*start + seconds).contains(*call)).count();
    calls.iter().map(from).max().unwrap_or_default()
}

proptest! {
    #[test]
    fn whatever_goes_on_failing_makes_few_calls(duty in duty(), outcomes in outcomes(), has_witness: bool) {
        let (calls, _) = endless_failure(duty, &outcomes, has_witness);
        let in_a_day = within(&calls, DAY.as_secs_f64());
        let in_first_hour = calls.iter().filter(|call| **call < 3600.0).count();
        prop_assert!(within(&calls, 60.0) <= 15, "{} calls in a minute", within(&calls, 60.0));
        prop_assert!(in_first_hour <= 60, "{in_first_hour} calls in the first hour");
        // An account or a bot may make twenty an hour, whatever waits for it.
        let is_of_all = matches!(duty, Duty::Token | Duty::AccountPoll | Duty::AccountRefused | Duty::BotRefused | Duty::Trial);
        prop_assert!(in_a_day <= if is_of_all { 20 * 24 } else { 200 }, "{in_a_day} calls in a day");
    }

    #[test]
    fn without_a_witness_an_outage_of_less_than_a_day_ends_nothing_that_people_wrote(
        duty in prop::sample::select(&[Duty::Words, Duty::EndNotice, Duty::Part, Duty::Upload, Duty::Verification][..]),
        outcome in prop::sample::select(&[Outcome::NotSent, Outcome::AnswerLost, Outcome::Unknown][..]),
        attempts in 0_u32..1000, answers_lost in 0_u32..1000, seconds in 0_u64..86_400,
    ) {
        let history = History { attempts, answers_lost, failing_for: Duration::from_secs(seconds), has_witness: false };
        let is_repeated = matches!(duty.after(outcome, history), Verdict::Wait { .. });
        prop_assert!(is_repeated);
    }

    #[test]
    fn waits_grow_until_the_cap(duty in duty(), attempts in 0_u32..40) {
        let wait = |attempts| match duty.after(Outcome::Unknown, History { attempts, ..History::default() }) {
            Verdict::Wait { wait, .. } => Some(wait),
            Verdict::Plainer | Verdict::End => None,
        };
        if let (Some(one), Some(next)) = (wait(attempts), wait(attempts + 1)) {
            prop_assert!(next >= one);
        }
    }

    #[test]
    fn an_ordered_wait_is_never_shortened_and_never_longer_than_a_day(
        duty in duty(), ordered in 0_u64..1_000_000, failing_for in 0_u64..1_000_000,
    ) {
        let history = History { failing_for: Duration::from_secs(failing_for), ..History::default() };
        let ordered = Duration::from_secs(ordered);
        let Verdict::Wait { wait, counts, .. } = duty.after(Outcome::Limited(ordered), history) else {
            return Err(TestCaseError::fail("a limit ends nothing"));
        };
        prop_assert!(wait >= ordered.min(DAY) && wait <= DAY && !counts);
    }

    #[test]
    fn a_wait_is_moved_by_a_fifth_at_the_most(seconds in 1_u64..100_000) {
        let moved = spread(Duration::from_secs(seconds)).as_secs_f64() / Duration::from_secs(seconds).as_secs_f64();
        prop_assert!((0.799..=1.201).contains(&moved));
    }
}

#[test]
fn with_a_witness_everything_ends_but_what_serves_something_that_lasts() {
    let lasting = [
        Duty::EndNotice,
        Duty::Token,
        Duty::Confirmation,
        Duty::TopicLater,
        Duty::AccountPoll,
        Duty::ChatPoll,
        Duty::Webhook,
        Duty::BotRefused,
        Duty::AccountRefused,
        Duty::Trial,
    ];
    for duty in Duty::VARIANTS {
        let (_, is_ended) = endless_failure(*duty, &[Outcome::Unknown], true);
        assert_eq!(is_ended, !lasting.contains(duty), "{duty:?}");
    }
}

#[test]
fn what_people_wrote_ends_at_the_tenth_failure_or_the_fifth_lost_answer_with_a_witness() {
    let calls = |outcome| endless_failure(Duty::Words, &[outcome], true).0.len();
    assert_eq!((calls(Outcome::Unknown), calls(Outcome::AnswerLost)), (10, 5));
    assert_eq!(endless_failure(Duty::Part, &[Outcome::Unknown], true).0.len(), 10);
}

#[test]
fn from_the_end_that_has_no_witness_on_what_comes_behind_goes_first() {
    let passes = |attempts| match Duty::Words.after(Outcome::Unknown, History { attempts, ..History::default() }) {
        Verdict::Wait { lets_others_pass, .. } => lets_others_pass,
        Verdict::Plainer | Verdict::End => false,
    };
    assert_eq!([8, 9, 10].map(passes), [false, true, true]);
}

#[test]
fn a_chat_that_avito_does_not_know_is_asked_for_five_times_in_the_first_hours_and_given_up_after_a_day() {
    let (calls, is_ended) = endless_failure(Duty::Confirmation, &[Outcome::Refused], false);
    assert!(is_ended && (7..=11).contains(&calls.len()), "{calls:?}");
}
