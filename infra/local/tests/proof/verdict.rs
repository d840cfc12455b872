//! The fate of every message, as both simulators have it: arrived, lost, doubled, out of order, marked. The work grows
//! with the messages of a chat as n log n.

use std::collections::{BTreeSet, HashMap};
use std::fmt;

use jiff::Timestamp;
use serde_json::Value;
use std::sync::atomic::Ordering;

use super::people::{Market, Shop, Talk, answer, list, question};
use super::webhooks::{DeliveryTime, DeliveryTimes};

/// The counts of one direction.
#[derive(Debug, Default)]
pub(crate) struct Direction {
    pub(crate) sent: usize,
    pub(crate) arrived: usize,
    pub(crate) lost: Vec<String>,
    /// Appeared more than once, and is not marked as `maybe_duplicate`.
    pub(crate) doubled: Vec<String>,
    /// Stands behind a later one, though its webhook came first.
    pub(crate) out_of_order: Vec<String>,
    /// Appeared more than once, and is marked as `maybe_duplicate`.
    marked: usize,
    /// Stands behind a later one, and its webhook did not come first.
    late: usize,
    /// The times at which messages were written and first shown, in Unix milliseconds.
    pub(crate) written: Vec<i64>,
    pub(crate) shown: Vec<i64>,
    /// The milliseconds from one to the other.
    pub(crate) delays: Vec<i64>,
}

/// Both directions.
#[derive(Debug, Default)]
pub(crate) struct Verdict {
    pub(crate) to_telegram: Direction,
    pub(crate) to_avito: Direction,
}

/// A text as a simulator has it, and the time at which it came there.
#[derive(Clone, Debug)]
struct Piece {
    text: String,
    at: i64,
}

/// One chat: the messages that were written, in order, and what is known of each.
#[derive(Default)]
struct Expected {
    texts: Vec<String>,
    written: HashMap<String, i64>,
    delivered: HashMap<String, DeliveryTime>,
}

impl Verdict {
    pub(crate) async fn reach(market: &Market, times: &DeliveryTimes) -> Self {
        let mut verdict = Self::default();
        for shop in &market.shops {
            let group = shop.group.load(Ordering::Relaxed);
            let topics = list(&shop.seller.stack.ask(&format!("telegram/topics?chat_id={group}")).await, "topics");
            let duplicates = maybe_duplicates(shop).await;
            for talk in &shop.talks {
                let answer = shop.seller.stack.ask(&format!("avito/chats?chat={}", talk.chat)).await;
                let in_avito = list(&answer["chats"][0], "messages");
                verdict.judge(shop.seller.user_id, talk, &in_avito, &topics, (times, &duplicates));
            }
        }
        verdict
    }

    fn judge(
        &mut self,
        account: i64,
        talk: &Talk,
        in_avito: &[Value],
        topics: &[Value],
        (times, duplicates): (&DeliveryTimes, &BTreeSet<String>),
    ) {
        let text = |message: &Value| message["content"]["text"].as_str().map(str::to_owned);
        let (own, buyers): (Vec<&Value>, Vec<&Value>) =
            in_avito.iter().partition(|message| message["author_id"] == account);
        let asked = buyers.into_iter().filter_map(|message| Some((text(message)?, message)));
        let asked: Vec<(String, &Value)> = asked.collect();
        let time = |message: &Value| times.get(message["id"].as_str()?).copied();
        let questions = Expected {
            texts: (1..=talk.asked.load(Ordering::Relaxed)).map(|number| question(&talk.buyer, number)).collect(),
            written: asked.iter().map(|(text, message)| (text.clone(), at(message))).collect(),
            delivered: asked.iter().filter_map(|(text, message)| Some((text.clone(), time(message)?))).collect(),
        };
        self.to_telegram.count(&questions, &posted_lines(topics, talk), duplicates);
        let texts: Vec<String> =
            (1..=talk.answered.load(Ordering::Relaxed)).map(|number| answer(&talk.buyer, number)).collect();
        let written = written_by_people(topics, talk);
        let answers = Expected { delivered: everything_in_order(&texts), texts, written };
        let sent = own.into_iter().filter_map(|message| Some(Piece { text: text(message)?, at: at(message) }));
        self.to_avito.count(&answers, &sent.collect::<Vec<_>>(), &BTreeSet::new());
    }

    pub(crate) fn assert_promises(&self) {
        for direction in [&self.to_telegram, &self.to_avito] {
            let broken = (&direction.lost, &direction.doubled, &direction.out_of_order);
            assert_eq!(broken, (&Vec::new(), &Vec::new(), &Vec::new()));
        }
    }
}

impl Direction {
    /// Compares what one chat holds, piece by piece, with what was written.
    fn count(&mut self, expected: &Expected, pieces: &[Piece], marked: &BTreeSet<String>) {
        self.sent += expected.texts.len();
        let found = appearances(pieces);
        for text in &expected.texts {
            let written = expected.written.get(text);
            self.written.extend(written);
            let Some(places) = found.get(text.as_str()) else {
                self.lost.push(text.clone());
                continue;
            };
            self.arrived += 1;
            let shown = pieces[places[0]].at;
            self.shown.push(shown);
            self.delays.extend(written.map(|written| shown - written));
            if places.len() > 1 {
                if marked.contains(text) { self.marked += 1 } else { self.doubled.push(text.clone()) }
            }
        }
        self.count_disorder(expected, pieces.len(), |text| found.get(text).map(|places| places[0]));
    }

    /// Counts the messages that stand behind a later one. From the last message to the first, each one asks for the
    /// newest delivery among the later ones that stand before it.
    fn count_disorder(&mut self, expected: &Expected, places: usize, place: impl Fn(&str) -> Option<usize>) {
        let mut later = Newest::of(places);
        for text in expected.texts.iter().rev() {
            let Some(place) = place(text) else { continue };
            let own = expected.delivered.get(text);
            match (later.before(place), own) {
                (None, _) => {}
                (Some(newest), Some(own)) if own.until < newest => self.out_of_order.push(text.clone()),
                (Some(_), _) => self.late += 1,
            }
            later.note(place, own.map(|own| own.from));
        }
    }
}

/// The newest delivery among the messages before a place: a Fenwick tree of maxima. A message without a delivery counts
/// as delivered before all others.
struct Newest(Vec<Option<Timestamp>>);

impl Newest {
    fn of(places: usize) -> Self {
        Self(vec![None; places + 1])
    }

    fn note(&mut self, place: usize, delivery: Option<Timestamp>) {
        let delivery = Some(delivery.unwrap_or(Timestamp::MIN));
        let mut at = place + 1;
        while at < self.0.len() {
            self.0[at] = self.0[at].max(delivery);
            at += at & at.wrapping_neg();
        }
    }

    /// None: no message stands before the place.
    fn before(&self, place: usize) -> Option<Timestamp> {
        let (mut at, mut newest) = (place, None);
        while at > 0 {
            newest = newest.max(self.0[at]);
            at -= at & at.wrapping_neg();
        }
        newest
    }
}

/// Maps each message that is mentioned to the pieces that mention it, the first one first.
fn appearances(pieces: &[Piece]) -> HashMap<&str, Vec<usize>> {
    let mut found: HashMap<&str, Vec<usize>> = HashMap::new();
    for (place, piece) in pieces.iter().enumerate() {
        let marks = ["Вопрос <", "Ответ <"].iter();
        let mentioned: BTreeSet<&str> = marks.flat_map(|mark| mentions(&piece.text, mark)).collect();
        for text in mentioned {
            found.entry(text).or_default().push(place);
        }
    }
    found
}

fn mentions<'a>(text: &'a str, mark: &'a str) -> impl Iterator<Item = &'a str> {
    text.match_indices(mark).filter_map(|(at, _)| {
        let rest = &text[at..];
        Some(&rest[..=rest.find('>')?])
    })
}

fn at(message: &Value) -> i64 {
    message["at"].as_i64().expect("a time")
}

/// Lists the messages of a buyer's topics, all that he ever had, and those in General that are about him.
fn messages_of<'a>(topics: &'a [Value], talk: &'a Talk) -> impl Iterator<Item = &'a Value> {
    let is_of_buyer = |text: &Value| text.as_str().is_some_and(|text| text.contains(&talk.buyer));
    topics.iter().flat_map(move |topic| {
        let messages = topic["messages"].as_array().into_iter().flatten();
        let is_topic = is_of_buyer(&topic["name"]);
        messages.filter(move |message| is_topic || topic["thread_id"].is_null() && is_of_buyer(&message["text"]))
    })
}

/// Maps the texts that operators wrote to the times at which they did.
fn written_by_people(topics: &[Value], talk: &Talk) -> HashMap<String, i64> {
    let people = messages_of(topics, talk).filter(|message| message["from_bot"] == false);
    people.filter_map(|message| Some((message["text"].as_str()?.to_owned(), at(message)))).collect()
}

/// Lists the bot's posts about a buyer, line by line and oldest first, without replays, which repeat on purpose.
fn posted_lines(topics: &[Value], talk: &Talk) -> Vec<Piece> {
    let posted = messages_of(topics, talk).filter(|message| message["from_bot"] == true);
    let mut posts: Vec<(i64, i64, &str)> = posted
        .filter_map(|message| Some((message["message_id"].as_i64()?, at(message), message["text"].as_str()?)))
        .filter(|(_, _, text)| !text.starts_with("↩️ Последние сообщения"))
        .collect();
    posts.sort_unstable();
    let lines = posts.into_iter().flat_map(|(_, at, text)| text.lines().map(move |line| (line, at)));
    lines.map(|(line, at)| Piece { text: line.to_owned(), at }).collect()
}

/// Returns delivery times in order: Telegram sends the updates of operators' messages one by one.
fn everything_in_order(texts: &[String]) -> HashMap<String, DeliveryTime> {
    let at = |second: i64| Timestamp::from_second(second).expect("a time");
    (0_i64..)
        .step_by(2)
        .zip(texts)
        .map(|(nth, text)| (text.clone(), DeliveryTime { from: at(nth), until: at(nth + 1) }))
        .collect()
}

/// Reads the texts of messages that are marked as `maybe_duplicate`.
async fn maybe_duplicates(shop: &Shop) -> BTreeSet<String> {
    let find = "SELECT text FROM messages WHERE avito_account_id = $1 AND maybe_duplicate AND text IS NOT NULL";
    let rows = super::support::database().await.query(find, &[&shop.seller.account_id]).await.expect("the rows");
    rows.iter().map(|row| row.get(0)).collect()
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "| to | sent | arrived | lost | doubled | out of order | marked `maybe_duplicate` | reported late |"
        )?;
        writeln!(f, "| --- | --- | --- | --- | --- | --- | --- | --- |")?;
        for (name, direction) in [("Telegram", &self.to_telegram), ("Avito", &self.to_avito)] {
            let (lost, doubled) = (direction.lost.len(), direction.doubled.len());
            let mixed = direction.out_of_order.len();
            let Direction { sent, arrived, marked, late, .. } = direction;
            writeln!(f, "| {name} | {sent} | {arrived} | {lost} | {doubled} | {mixed} | {marked} | {late} |")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use rand::rngs::StdRng;
    use rand::seq::SliceRandom;
    use rand::{RngExt, SeedableRng};

    use super::*;

    /// Counts what became of the first three questions, of which these appear in this order.
    fn counted(numbers: &[usize], marked: &[usize]) -> Direction {
        let texts: Vec<String> = (1..=3).map(|number| question("Б", number)).collect();
        let written = (0..).step_by(1000).zip(&texts).map(|(at, text)| (text.clone(), at)).collect();
        let expected = Expected { delivered: everything_in_order(&texts), written, texts };
        let piece = |(at, number): (i64, &usize)| Piece { text: format!("14:05 {}", question("Б", *number)), at };
        let pieces: Vec<Piece> = (5000..).step_by(100).zip(numbers).map(piece).collect();
        let mut direction = Direction::default();
        direction.count(&expected, &pieces, &marked.iter().map(|number| question("Б", *number)).collect());
        direction
    }

    #[test]
    fn messages_that_are_complete_and_in_order_count_as_arrived_only() {
        let direction = counted(&[1, 2, 3], &[]);
        assert_eq!((direction.sent, direction.arrived, direction.marked, direction.late), (3, 3, 0, 0));
        assert_eq!((direction.lost.len(), direction.doubled.len(), direction.out_of_order.len()), (0, 0, 0));
        assert_eq!(direction.delays, [5000, 4100, 3200]);
    }

    #[test]
    fn missing_doubled_marked_and_overtaken_messages_are_counted_apart() {
        let texts = |numbers: &[usize]| numbers.iter().map(|number| question("Б", *number)).collect::<Vec<_>>();
        assert_eq!(counted(&[1, 3], &[]).lost, texts(&[2]));
        assert_eq!(counted(&[1, 2, 1, 3], &[]).doubled, texts(&[1]));
        assert_eq!(counted(&[1, 2, 1, 3], &[1]).marked, 1);
        assert_eq!(counted(&[2, 1, 3], &[]).out_of_order, texts(&[1]));
        assert_eq!(counted(&[3, 1, 2], &[]).out_of_order, texts(&[2, 1]));
        assert_eq!(counted(&[3, 2, 1], &[]).out_of_order, texts(&[2, 1]));
    }

    #[test]
    fn a_message_whose_webhook_did_not_come_first_is_late_and_not_out_of_order() {
        let texts = vec![question("Б", 1), question("Б", 2)];
        let pieces = [2, 1].map(|number| Piece { text: question("Б", number), at: 0 });
        let mut direction = Direction::default();
        direction.count(&Expected { texts, ..Expected::default() }, &pieces, &BTreeSet::new());
        assert_eq!((direction.late, direction.out_of_order.len()), (1, 0));
    }

    /// Counts as the words say it, pair by pair: those out of order, and those that are late.
    fn by_definition(expected: &Expected, place: &HashMap<String, usize>) -> (BTreeSet<String>, usize) {
        let (mut out_of_order, mut late) = (BTreeSet::new(), 0);
        for (nth, text) in expected.texts.iter().enumerate() {
            let is_before =
                |later: &&String| place.get(text).zip(place.get(*later)).is_some_and(|(own, other)| other < own);
            let time = |text: &String| expected.delivered.get(text);
            let came_later =
                |later: &&String| time(text).zip(time(later)).is_some_and(|(own, other)| own.until < other.from);
            let overtakers: Vec<&String> = expected.texts[nth + 1..].iter().filter(is_before).collect();
            if overtakers.iter().any(came_later) {
                out_of_order.insert(text.clone());
            } else if !overtakers.is_empty() {
                late += 1;
            }
        }
        (out_of_order, late)
    }

    #[test]
    fn the_fast_count_of_disorder_is_the_one_by_definition() {
        let mut dice = StdRng::seed_from_u64(7);
        for _ in 0..2000 {
            let texts: Vec<String> = (1..=dice.random_range(1..9)).map(|number| question("Б", number)).collect();
            let mut shown = texts.clone();
            shown.shuffle(&mut dice);
            shown.truncate(dice.random_range(0..=shown.len()));
            let place: HashMap<String, usize> = shown.into_iter().zip(0..).collect();
            let second = |number: i64| Timestamp::from_second(number).expect("a time");
            let mut delivered = HashMap::new();
            for text in &texts {
                let from = dice.random_range(0..12);
                if dice.random_bool(0.8) {
                    let until = second(from + dice.random_range(0..3));
                    delivered.insert(text.clone(), DeliveryTime { from: second(from), until });
                }
            }
            let expected = Expected { texts, delivered, ..Expected::default() };
            let mut direction = Direction::default();
            direction.count_disorder(&expected, place.len(), |text| place.get(text).copied());
            let counted = (direction.out_of_order.iter().cloned().collect(), direction.late);
            assert_eq!(counted, by_definition(&expected, &place));
        }
    }

    #[test]
    fn a_chat_of_a_hundred_thousand_messages_is_judged_at_once() {
        let texts: Vec<String> = (1..=100_000).map(|number| question("Б", number)).collect();
        let pieces: Vec<Piece> = texts.iter().rev().map(|text| Piece { text: text.clone(), at: 0 }).collect();
        let expected = Expected { delivered: everything_in_order(&texts), texts, ..Expected::default() };
        let (began, mut direction) = (Instant::now(), Direction::default());
        direction.count(&expected, &pieces, &BTreeSet::new());
        assert_eq!((direction.arrived, direction.out_of_order.len()), (100_000, 99_999));
        assert!(began.elapsed() < Duration::from_secs(20), "{:?}", began.elapsed());
    }
}
