//! The fate of every message, as both simulators have it: arrived, lost, doubled, out of order, marked.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::time::Duration;

use jiff::Timestamp;
use serde_json::Value;
use std::sync::atomic::Ordering;

use super::people::{Market, Shop, Talk, answer, list, question};

/// The counts of one direction.
#[derive(Debug, Default)]
struct Direction {
    sent: usize,
    arrived: usize,
    lost: Vec<String>,
    /// Appeared more than once, and is not marked as `maybe_duplicate`.
    doubled: Vec<String>,
    /// Stands behind a later one, though its webhook came first.
    out_of_order: Vec<String>,
    /// Appeared more than once, and is marked as `maybe_duplicate`.
    marked: usize,
    /// Stands behind a later one, and its webhook did not come first.
    late: usize,
}

/// Both directions.
#[derive(Debug, Default)]
pub(crate) struct Verdict {
    to_telegram: Direction,
    to_avito: Direction,
}

/// The time during which a webhook was delivered.
struct DeliveryTime {
    from: Timestamp,
    until: Timestamp,
}

impl Verdict {
    pub(crate) async fn reach(market: &Market) -> Self {
        let mut verdict = Self::default();
        for shop in &market.shops {
            let group = shop.group.load(Ordering::Relaxed);
            let topics = list(&shop.seller.stack.ask(&format!("telegram/topics?chat_id={group}")).await, "topics");
            let attempts = list(&shop.seller.stack.ask("webhooks").await, "attempts");
            for talk in &shop.talks {
                let expected: Vec<String> =
                    (1..=market.per_chat()).map(|number| question(&talk.buyer, number)).collect();
                let ids = ids(shop, talk).await;
                let times = delivery_times(&attempts, &ids);
                let duplicates = maybe_duplicates(shop).await;
                verdict.to_telegram.count(&expected, &posted_lines(&topics, talk), &times, &duplicates);
                let expected: Vec<String> = (1..=market.per_chat()).map(|number| answer(&talk.buyer, number)).collect();
                let answers = shop.seller.answers(&talk.chat).await;
                verdict.to_avito.count(&expected, &answers, &everything_in_order(&expected), &BTreeSet::new());
            }
        }
        verdict
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
    fn count(
        &mut self,
        expected: &[String],
        pieces: &[String],
        times: &BTreeMap<String, DeliveryTime>,
        marked: &BTreeSet<String>,
    ) {
        self.sent += expected.len();
        let position = |text: &String| pieces.iter().position(|piece| piece.contains(text.as_str()));
        for text in expected {
            match pieces.iter().filter(|piece| piece.contains(text.as_str())).count() {
                0 => self.lost.push(text.clone()),
                1 => self.arrived += 1,
                _ => {
                    self.arrived += 1;
                    if marked.contains(text) { self.marked += 1 } else { self.doubled.push(text.clone()) }
                }
            }
        }
        for (nth, text) in expected.iter().enumerate() {
            let behind =
                |later: &&String| matches!((position(text), position(later)), (Some(own), Some(other)) if own > other);
            let overtakers: Vec<&String> = expected[nth + 1..].iter().filter(behind).collect();
            let came_first = |later: &&&String| matches!((times.get(text), times.get(**later)), (Some(own), Some(other)) if own.until < other.from);
            if overtakers.iter().any(|later| came_first(&later)) {
                self.out_of_order.push(text.clone());
            } else if !overtakers.is_empty() {
                self.late += 1;
            }
        }
    }
}

/// Lists the bot's posts about a buyer, line by line and oldest first, without replays, which repeat on purpose.
fn posted_lines(topics: &[Value], talk: &Talk) -> Vec<String> {
    let of_buyer = topics.iter().filter(|topic| topic["name"].as_str().is_some_and(|name| name.ends_with(&talk.buyer)));
    let messages = of_buyer.flat_map(|topic| list(topic, "messages"));
    let mut posts: Vec<(i64, String)> = messages
        .filter(|message| message["from_bot"] == true)
        .filter_map(|message| Some((message["message_id"].as_i64()?, message["text"].as_str()?.to_owned())))
        .filter(|(_, text)| !text.starts_with("↩️ Последние сообщения"))
        .collect();
    posts.sort();
    posts.into_iter().flat_map(|(_, text)| text.lines().map(str::to_owned).collect::<Vec<_>>()).collect()
}

/// Maps Avito's ids of a chat's messages to their texts.
async fn ids(shop: &Shop, talk: &Talk) -> BTreeMap<String, String> {
    let answer = shop.seller.stack.ask(&format!("avito/chats?chat={}", talk.chat)).await;
    let messages = list(&answer["chats"][0], "messages");
    let named = messages.iter().filter_map(|message| {
        Some((message["id"].as_str()?.to_owned(), message["content"]["text"].as_str()?.to_owned()))
    });
    named.collect()
}

/// Maps the texts of messages whose webhook was accepted to the time of that delivery.
fn delivery_times(attempts: &[Value], texts: &BTreeMap<String, String>) -> BTreeMap<String, DeliveryTime> {
    let mut times = BTreeMap::new();
    for attempt in attempts.iter().filter(|attempt| attempt["status"] == 200) {
        let Some(text) = attempt["id"].as_str().and_then(|id| texts.get(id)) else { continue };
        let until: Timestamp = attempt["at"].as_str().and_then(|at| at.parse().ok()).expect("a time");
        let lasted = Duration::from_millis(attempt["duration_ms"].as_u64().expect("a duration"));
        times.entry(text.clone()).or_insert(DeliveryTime { from: until - lasted, until });
    }
    times
}

/// Returns delivery times in order: Telegram sends the updates of operators' messages one by one.
fn everything_in_order(texts: &[String]) -> BTreeMap<String, DeliveryTime> {
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
    use super::*;

    fn counted(pieces: &[&str], marked: &[&str]) -> Direction {
        let texts = |all: &[&str]| all.iter().map(|text| (*text).to_owned()).collect::<Vec<_>>();
        let expected = texts(&["один", "два", "три"]);
        let mut direction = Direction::default();
        let marked = marked.iter().map(|text| (*text).to_owned()).collect();
        direction.count(&expected, &texts(pieces), &everything_in_order(&expected), &marked);
        direction
    }

    #[test]
    fn messages_that_are_complete_and_in_order_count_as_arrived_only() {
        let direction = counted(&["один", "два", "три"], &[]);
        assert_eq!((direction.arrived, direction.marked, direction.late), (3, 0, 0));
        assert_eq!((direction.lost.len(), direction.doubled.len(), direction.out_of_order.len()), (0, 0, 0));
    }

    #[test]
    fn missing_doubled_marked_and_overtaken_messages_are_counted_apart() {
        assert_eq!(counted(&["один", "три"], &[]).lost, ["два"]);
        assert_eq!(counted(&["один", "два", "один", "три"], &[]).doubled, ["один"]);
        assert_eq!(counted(&["один", "два", "один", "три"], &["один"]).marked, 1);
        assert_eq!(counted(&["два", "один", "три"], &[]).out_of_order, ["один"]);
    }

    #[test]
    fn a_message_whose_webhook_did_not_come_first_is_late_and_not_out_of_order() {
        let expected = ["один".to_owned(), "два".to_owned()];
        let mut direction = Direction::default();
        direction.count(&expected, &["два".to_owned(), "один".to_owned()], &BTreeMap::new(), &BTreeSet::new());
        assert_eq!((direction.late, direction.out_of_order.len()), (1, 0));
    }
}
