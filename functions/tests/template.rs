//! Checks the template for what only shows on AWS: limits, names that are unique there, repeated invocations, alarms.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::{Path, PathBuf},
};

use yaml_serde::Value;

/// A resource of the template.
struct Resource {
    id: String,
    kind: String,
    properties: Value,
}

/// An event that starts a function.
struct Event {
    function: String,
    kind: String,
    properties: Value,
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

fn read(path: &Path) -> String {
    std::fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// The template's resources.
fn resources() -> Vec<Resource> {
    let template: Value = yaml_serde::from_str(&read(&root().join("template.yaml")))
        .unwrap_or_else(|error| panic!("template.yaml: {error}"));
    let resources = template["Resources"].as_mapping().into_iter().flatten();
    resources
        .map(|(id, resource)| Resource {
            id: id.as_str().unwrap_or_default().to_owned(),
            kind: resource["Type"].as_str().unwrap_or_default().to_owned(),
            properties: resource["Properties"].clone(),
        })
        .collect()
}

/// The template's functions.
fn functions() -> Vec<Resource> {
    let functions: Vec<_> =
        resources().into_iter().filter(|resource| resource.kind == "AWS::Serverless::Function").collect();
    assert!(functions.len() > 20, "the template has its functions");
    functions
}

/// The events of all functions that are of this kind.
fn events(kind: &str) -> Vec<Event> {
    let of = |function: &Resource| {
        let events = function.properties.get("Events").and_then(Value::as_mapping).cloned().unwrap_or_default();
        let event = |event: Value| Event {
            function: function.id.clone(),
            kind: event["Type"].as_str().unwrap_or_default().to_owned(),
            properties: event["Properties"].clone(),
        };
        events.into_iter().map(|(_, value)| event(value)).collect::<Vec<_>>()
    };
    functions().iter().flat_map(of).filter(|event| event.kind == kind).collect()
}

/// The text of a value, also behind `!Sub` or `!Ref`.
fn text(value: &Value) -> &str {
    match value {
        Value::Tagged(tagged) => tagged.value.as_str(),
        value => value.as_str(),
    }
    .unwrap_or_default()
}

/// A worker waits while Postgres is away, and without a maximum as many wait as the account may run, webhooks included.
/// The emulator stops a queue's consumer where the number is another than a plain one.
#[test]
fn every_queue_has_a_most_of_consumers_as_a_plain_number() {
    let sources = events("SQS");
    assert!(sources.len() >= 5, "the template has its queues' consumers");
    for source in sources {
        let maximum = source.properties.get("ScalingConfig").and_then(|scaling| scaling["MaximumConcurrency"].as_u64());
        assert!(maximum.is_some_and(|maximum| (2..=100).contains(&maximum)), "{}: {maximum:?}", source.function);
    }
}

/// Names are unique in an AWS account and region, so a second stack would fail on one that is the same in both.
#[test]
fn every_name_begins_with_the_stacks() {
    let names =
        ["FunctionName", "QueueName", "LogGroupName", "AlarmName", "RoleName", "ManagedPolicyName", "TopicName"];
    for resource in resources() {
        for name in names.iter().filter_map(|name| resource.properties.get(*name)) {
            assert!(text(name).trim_start_matches("/tuberry/").starts_with("${AWS::StackName}"), "{}", resource.id);
        }
    }
    // SAM names a schedule after function and event where the template does not.
    let schedules = events("ScheduleV2");
    assert!(schedules.len() >= 3, "the template has its schedules");
    for schedule in schedules {
        let name = schedule.properties.get("Name").map(text).unwrap_or_default();
        assert!(name.starts_with("${AWS::StackName}-"), "the schedule of {}: {name:?}", schedule.function);
    }
}

/// A scheduler invokes asynchronously, and Lambda repeats each failure twice unless it is told not to.
#[test]
fn what_a_schedule_starts_is_not_repeated_by_lambda() {
    let scheduled: Vec<_> = events("ScheduleV2").into_iter().map(|event| event.function).collect();
    for function in functions().iter().filter(|function| scheduled.contains(&function.id)) {
        let retries = function.properties.get("EventInvokeConfig").map(|config| config["MaximumRetryAttempts"].clone());
        assert_eq!(retries.and_then(|retries| retries.as_u64()), Some(0), "{}", function.id);
    }
}

/// An alarm on a queue's dead letters is of no use where tasks expire before they were tried often enough.
#[test]
fn a_queue_with_dead_letters_keeps_its_tasks_until_they_were_tried_often_enough() {
    let queues = resources().into_iter().filter(|resource| resource.kind == "AWS::SQS::Queue");
    for queue in queues.filter(|queue| queue.properties.get("RedrivePolicy").is_some()) {
        let kept = queue.properties["MessageRetentionPeriod"].as_u64().unwrap_or_default();
        let tries = queue.properties["RedrivePolicy"]["maxReceiveCount"].as_u64().unwrap_or(u64::MAX);
        // Six times the usual time-out of a worker.
        assert!(kept >= tries.saturating_mul(180), "{}: {tries} tries within {kept} s", queue.id);
    }
}

/// Reserved executions are taken from all other functions, so none are unless the one who deploys asks for them.
#[test]
fn executions_are_reserved_for_the_two_webhooks_alone_and_only_if_a_parameter_says_so() {
    let reserved: Vec<_> = functions()
        .into_iter()
        .filter_map(|function| {
            let reserved = function.properties.get("ReservedConcurrentExecutions")?.clone();
            Some((function.id, reserved))
        })
        .collect();
    let names: Vec<_> = reserved.iter().map(|(name, _)| name.as_str()).collect();
    assert_eq!(names, ["TelegramWebhookFunction", "AvitoWebhookFunction"]);
    for (name, value) in reserved {
        let Value::Tagged(choice) = value else { panic!("{name} reserves executions in any case") };
        let condition = choice.value.as_sequence().and_then(|choice| choice.first()).and_then(Value::as_str);
        assert_eq!(condition, Some("HasWebhookConcurrency"));
    }
}

/// A metric that an alarm watches.
#[derive(Debug)]
struct Metric {
    namespace: String,
    name: String,
    dimensions: BTreeMap<String, String>,
    statistic: String,
}

fn alarms() -> Vec<Resource> {
    let alarms: Vec<_> = resources().into_iter().filter(|resource| resource.kind == "AWS::CloudWatch::Alarm").collect();
    assert!(alarms.len() > 15, "the template has its alarms");
    alarms
}

fn metric(metric: &Value, statistic: &Value) -> Metric {
    let dimensions = metric["Dimensions"].as_sequence().into_iter().flatten();
    Metric {
        namespace: text(&metric["Namespace"]).to_owned(),
        name: text(&metric["MetricName"]).to_owned(),
        dimensions: dimensions.map(|one| (text(&one["Name"]).to_owned(), text(&one["Value"]).to_owned())).collect(),
        statistic: text(statistic).to_owned(),
    }
}

/// The metrics of an alarm: its only one, or those of its expression.
fn metrics(alarm: &Resource) -> Vec<Metric> {
    let Some(of_expression) = alarm.properties.get("Metrics").and_then(Value::as_sequence) else {
        return vec![metric(&alarm.properties, &alarm.properties["Statistic"])];
    };
    let measured = of_expression.iter().filter_map(|item| item.get("MetricStat"));
    measured.map(|item| metric(&item["Metric"], &item["Stat"])).collect()
}

/// Rust's files below a folder.
fn sources(folder: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
    let paths = entries.filter_map(Result::ok).map(|entry| entry.path());
    paths
        .flat_map(|path| if path.is_dir() { sources(&path) } else { vec![path] })
        .filter(|path| path.extension().is_some_and(|extension| extension == "rs"))
        .collect()
}

/// The parts of the library whose code runs in one function alone, with that function.
const ROOMS: [(&str, &str); 5] = [
    ("bridge/sweep.rs", "sweep"),
    ("bridge/ingest/intake.rs", "record-intake"),
    ("bridge/ingest/polls/", "poll-accounts"),
    ("bridge/to_telegram/", "deliver-to-telegram"),
    ("bridge/to_avito/", "deliver-to-avito"),
];

/// The metrics that the code of those parts emits: (function, name, kind).
fn emitted() -> BTreeSet<(&'static str, String, &'static str)> {
    let library = root().join("functions/shared/src");
    let mut found = BTreeSet::new();
    for path in sources(&library) {
        let inner = path.strip_prefix(&library).unwrap_or(&path).to_string_lossy().into_owned();
        let Some((_, function)) = ROOMS.iter().find(|(room, _)| inner.starts_with(room)) else { continue };
        let code = read(&path);
        for (call, kind) in [("counter!(\"", "Sum"), ("gauge!(\"", "Maximum Minimum")] {
            // A label makes another dimension, so an alarm on the metric without it would see nothing.
            let calls = code.split(call).skip(1).filter_map(|rest| rest.split_once('"'));
            let names = calls.filter(|(_, rest)| rest.starts_with(')')).map(|(name, _)| name);
            found.extend(names.map(|name| (*function, name.to_owned(), kind)));
        }
    }
    found
}

/// An alarm on a metric that nobody writes stays silent for ever, without a word.
#[test]
fn every_alarm_watches_what_is_written_with_the_dimensions_that_it_has() {
    let (emitted, resources) = (emitted(), resources());
    let kind_of = |id: &str| resources.iter().find(|one| one.id == id).map_or("", |one| one.kind.as_str());
    for alarm in alarms() {
        let watched = metrics(&alarm);
        assert!(!watched.is_empty(), "{} watches nothing", alarm.id);
        for metric in watched {
            let dimension = |name: &str| metric.dimensions.get(name).map_or("", String::as_str);
            let names: Vec<_> = metric.dimensions.keys().map(String::as_str).collect();
            let name = metric.name.as_str();
            let is_written = match metric.namespace.as_str() {
                "Tuberry" => {
                    let of = |(function, metric_name, kinds): &(&str, String, &str)| {
                        *function == dimension("function") && metric_name == name && kinds.contains(&metric.statistic)
                    };
                    names == ["function", "stack"] && dimension("stack") == "AWS::StackName" && emitted.iter().any(of)
                }
                "AWS/SQS" => {
                    let known = [
                        "ApproximateAgeOfOldestMessage",
                        "ApproximateNumberOfMessagesVisible",
                        "NumberOfMessagesDeleted",
                    ];
                    let queue = dimension("QueueName").strip_suffix(".QueueName").unwrap_or_default();
                    names == ["QueueName"] && known.contains(&name) && kind_of(queue) == "AWS::SQS::Queue"
                }
                "AWS/Lambda" => {
                    let is_function = kind_of(dimension("FunctionName")) == "AWS::Serverless::Function";
                    names == ["FunctionName"] && ["Errors", "Invocations", "Throttles"].contains(&name) && is_function
                }
                "AWS/ApiGateway" => {
                    names == ["ApiId"] && ["5xx", "Count"].contains(&name) && dimension("ApiId") == "Api"
                }
                _ => false,
            };
            assert!(is_written, "{} watches what nobody writes: {metric:?}", alarm.id);
        }
    }
}

#[test]
fn every_alarm_tells_when_it_ends_and_has_its_line_in_the_runbook() {
    let runbook = read(&root().join("infra/README.md"));
    for alarm in alarms() {
        for actions in ["AlarmActions", "OKActions"] {
            assert!(alarm.properties.get(actions).is_some(), "{} has no {actions}", alarm.id);
        }
        let rows = runbook.lines().filter(|line| line.starts_with('|') && line.contains(&format!("`{}`", alarm.id)));
        assert_eq!(rows.count(), 1, "{} has no line in infra/README.md, or several", alarm.id);
    }
}

/// The core path: what must ring within a quarter of an hour, and not at the first deployment.
#[test]
fn the_core_path_rings_within_a_quarter_of_an_hour() {
    let core = [
        "TelegramWaitsAlarm",
        "AvitoWaitsAlarm",
        "PollWaitsAlarm",
        "TelegramQueueAlarm",
        "AvitoQueueAlarm",
        "IntakeWaitsAlarm",
        "TelegramWebhookFailsAlarm",
        "AvitoWebhookFailsAlarm",
        "RecordIntakeFailsAlarm",
        "PollAccountsFailsAlarm",
        "DeliverToTelegramFailsAlarm",
        "DeliverToAvitoFailsAlarm",
        "SendAutoReplyFailsAlarm",
        "ApiFailsAlarm",
        "SweepFailsAlarm",
        "SweepSilentAlarm",
        "PollAvitoSilentAlarm",
    ];
    let alarms = alarms();
    for id in core {
        let alarm = alarms.iter().find(|alarm| alarm.id == id).unwrap_or_else(|| panic!("{id} is missing"));
        let properties = &alarm.properties;
        let of_expression = properties.get("Metrics").and_then(Value::as_sequence).into_iter().flatten();
        let periods = of_expression.filter_map(|item| item.get("MetricStat")?["Period"].as_u64());
        let period = properties.get("Period").and_then(Value::as_u64).or(periods.max()).unwrap_or(u64::MAX);
        let needed = properties.get("DatapointsToAlarm").unwrap_or(&properties["EvaluationPeriods"]);
        // A state that is measured in seconds has lasted for so long already when its first point counts.
        let measures_time =
            metrics(alarm).iter().any(|metric| metric.name.ends_with("_seconds") || metric.name.contains("Age"));
        let threshold = properties["Threshold"].as_u64().filter(|_| measures_time).unwrap_or_default();
        let duration = needed.as_u64().unwrap_or(u64::MAX).saturating_mul(period).saturating_add(threshold);
        assert!(duration <= 900, "{id} rings after {duration} s");
    }
    for alarm in alarms {
        assert_ne!(
            alarm.properties["TreatMissingData"], "breaching",
            "{} would ring at the first deployment",
            alarm.id
        );
    }
}
