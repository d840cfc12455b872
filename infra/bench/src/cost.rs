//! The cost of a million messages on AWS, computed from billed milliseconds, memory and requests (us-east-1, x86,
//! December 2025, without the free tier). A function of little memory has a small share of a processor there, so it
//! computes longer than here: its computing time is stretched to that share, its waiting time is not. Left out:
//! outgoing data, logs, the database, and the empty receives from idle queues, which do not grow with messages.

use crate::load::{Part, Taken};

/// A gigabyte of memory for a second.
const GIGABYTE_SECOND: f64 = 0.000_016_666_7;
/// A million invocations.
const MILLION_INVOCATIONS: f64 = 0.20;
/// A million requests to an HTTP API.
const MILLION_HTTP_REQUESTS: f64 = 1.00;
/// A million requests to SQS.
const MILLION_QUEUE_REQUESTS: f64 = 0.40;
/// The memory that comes with one whole processor.
const WHOLE_PROCESSOR_MB: f64 = 1769.0;

/// The cost of a million messages, in dollars.
pub(crate) fn of_a_million(taken: &Taken) -> f64 {
    let per_message = 1.0 / taken.messages;
    let functions: f64 = taken.functions.iter().map(of).sum();
    // Lambda's own requests: a batch is received with one request and deleted with another.
    let batches: f64 = taken.functions.iter().filter(|part| part.is_worker).map(|part| part.invocations).sum();
    let queues = (taken.queue_requests + 2.0 * batches) * MILLION_QUEUE_REQUESTS / 1e6;
    (functions + queues) * per_message * 1e6
}

/// The cost of a function's invocations, in dollars.
pub(crate) fn of(part: &Part) -> f64 {
    let memory = f64::from(part.memory_mb);
    let stretch = (WHOLE_PROCESSOR_MB / memory - 1.0).max(0.0);
    let billed_seconds = (part.billed_ms + part.cpu_ms * stretch) / 1000.0;
    let request = MILLION_INVOCATIONS + if part.is_worker { 0.0 } else { MILLION_HTTP_REQUESTS };
    billed_seconds * memory / 1024.0 * GIGABYTE_SECOND + part.invocations * request / 1e6
}

#[cfg(test)]
mod tests {
    use super::*;

    fn part(memory_mb: u32, billed_ms: f64, cpu_ms: f64) -> Part {
        let name = "deliver-to-telegram".to_owned();
        Part { name, memory_mb, is_worker: true, invocations: 1.0, billed_ms, cpu_ms, resident_mb: 0.0 }
    }

    fn taken(messages: f64, functions: Vec<Part>, queue_requests: f64) -> Taken {
        Taken {
            messages,
            seconds_until_done: 0.0,
            seconds: 1.0,
            functions,
            postgres_cpu_ms: 0.0,
            simulators_cpu_ms: 0.0,
            telegram_calls: 0.0,
            avito_calls: 0.0,
            queue_requests,
            postgres_round_trips: 0.0,
        }
    }

    fn cents(dollars: f64) -> i64 {
        #[expect(clippy::cast_possible_truncation, reason = "a few dollars")]
        let cents = (dollars * 100.0).round() as i64;
        cents
    }

    #[test]
    fn a_second_of_a_gigabyte_that_only_waits_costs_its_price_and_one_request() {
        let million = of(&part(1024, 1000.0, 0.0)) * 1e6;
        assert_eq!(cents(million), 1667 + 20);
    }

    #[test]
    fn computing_takes_longer_where_there_is_less_processor() {
        let (waiting, computing) = (part(512, 100.0, 0.0), part(512, 100.0, 100.0));
        let ratio = (of(&computing) - 0.2e-6) / (of(&waiting) - 0.2e-6);
        assert!((ratio - WHOLE_PROCESSOR_MB / 512.0).abs() < 1e-9);
    }

    #[test]
    fn an_endpoint_pays_for_its_request_to_the_api() {
        let worker = part(512, 10.0, 0.0);
        let endpoint = Part { is_worker: false, ..part(512, 10.0, 0.0) };
        assert_eq!(cents((of(&endpoint) - of(&worker)) * 1e6), 100);
    }

    #[test]
    fn a_million_messages_cost_a_million_times_one_and_its_queues() {
        let one = taken(1.0, vec![part(512, 10.0, 0.0)], 1.0);
        let ten = taken(10.0, (0..10).map(|_| part(512, 10.0, 0.0)).collect(), 10.0);
        assert_eq!(cents(of_a_million(&one)), cents(of_a_million(&ten)));
        assert_eq!(cents(of_a_million(&one) - of(&part(512, 10.0, 0.0)) * 1e6), 3 * 40);
    }
}
