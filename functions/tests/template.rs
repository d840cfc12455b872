//! Checks the template for what only shows on AWS: limits, names that are unique there, and repeated invocations.

use std::path::Path;

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

/// The template's resources.
fn resources() -> Vec<Resource> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../template.yaml");
    let text = std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    let template: Value = yaml_serde::from_str(&text).unwrap_or_else(|error| panic!("template.yaml: {error}"));
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
