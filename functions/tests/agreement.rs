//! Checks that the binaries, the template and the `OpenAPI` file agree. A failure names the one that is missing.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::{Path, PathBuf},
    process::Command,
};

use serde_json::Value;

type Names = BTreeSet<String>;

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

fn read(path: &str) -> String {
    let path = root().join(path);
    std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// The `[[bin]]` list with each binary's source.
fn binaries() -> BTreeMap<String, String> {
    let manifest = read("functions/Cargo.toml");
    let field = |section: &str, name: &str| {
        let line = section.lines().find_map(|line| line.strip_prefix(&format!("{name} = \"")))?;
        line.strip_suffix('"').map(str::to_owned)
    };
    let sections = manifest.split("[[bin]]").skip(1);
    sections.filter_map(|section| Some((field(section, "name")?, field(section, "path")?))).collect()
}

/// Returns the description that a binary prints of itself.
fn description(name: &str) -> Value {
    let binary = Path::new(env!("CARGO_BIN_EXE_openapi")).with_file_name(name);
    let output = Command::new(&binary)
        .env_clear()
        .env("TUBERRY_DESCRIBE", "1")
        .output()
        .unwrap_or_else(|error| panic!("{}: {error}", binary.display()));
    serde_json::from_slice(&output.stdout).unwrap_or_else(|error| panic!("{name} does not describe itself: {error}"))
}

fn names(value: &Value) -> Names {
    value.as_array().into_iter().flatten().filter_map(Value::as_str).map(str::to_owned).collect()
}

/// A function of the template.
struct Declared {
    logical_id: String,
    environment: Names,
    /// The variables that name a secret, which must have the variable's name.
    secrets: Names,
    /// The secrets that its role may read.
    readable: Names,
    /// Other actions that its role may take, by policies of its own.
    actions: Names,
    routes: Names,
}

/// Of `!Sub secretsmanager:${SecretPrefix}/NAME`, or of the end of a secret's ARN, the name.
fn secret_name(value: &yaml_serde::Value) -> Option<String> {
    let yaml_serde::Value::Tagged(substituted) = value else { return None };
    let (before, name) = substituted.value.as_str()?.split_once("${SecretPrefix}/")?;
    let arn = "arn:${AWS::Partition}:secretsmanager:${AWS::Region}:${AWS::AccountId}:secret:";
    match before {
        "secretsmanager:" => Some(name.to_owned()),
        before if before == arn => name.strip_suffix("-??????").map(str::to_owned),
        _ => None,
    }
}

/// The secret that a policy of the template allows to read. None: it is no such policy.
fn readable_secret(resources: &yaml_serde::Mapping, policy: &yaml_serde::Value) -> Option<String> {
    let yaml_serde::Value::Tagged(reference) = policy else { return None };
    let policy = &resources.get(&reference.value)?["Properties"]["PolicyDocument"];
    let statement = policy["Statement"].as_sequence()?.first()?;
    (statement["Action"] == "secretsmanager:GetSecretValue").then(|| secret_name(&statement["Resource"])).flatten()
}

/// The actions that a function's own policy allows.
fn actions(policy: &yaml_serde::Value) -> Vec<String> {
    let statements = policy.get("Statement").and_then(yaml_serde::Value::as_sequence).into_iter().flatten();
    let text = |action: &yaml_serde::Value| action.as_str().unwrap_or("unreadable").to_owned();
    statements
        .flat_map(|statement| match &statement["Action"] {
            yaml_serde::Value::Sequence(actions) => actions.iter().map(text).collect(),
            action => vec![text(action)],
        })
        .collect()
}

/// The template's functions, by the name of the binary that each of them runs.
fn template() -> BTreeMap<String, Declared> {
    let template: yaml_serde::Value =
        yaml_serde::from_str(&read("template.yaml")).unwrap_or_else(|error| panic!("template.yaml: {error}"));
    let text = |value: Option<&yaml_serde::Value>| value.and_then(yaml_serde::Value::as_str).map(str::to_owned);
    let resources = template["Resources"].as_mapping().cloned().unwrap_or_default();
    let functions = resources.iter().filter(|(_, resource)| resource["Type"] == "AWS::Serverless::Function");
    functions
        .filter_map(|(id, function)| {
            let properties = &function["Properties"];
            let code = text(properties.get("CodeUri"))?;
            let name = code.trim_end_matches('/').rsplit('/').next()?.to_owned();
            let variables = properties.get("Environment").and_then(|environment| environment.get("Variables"));
            let environment = variables.and_then(yaml_serde::Value::as_mapping).cloned().unwrap_or_default();
            let policies =
                properties.get("Policies").and_then(yaml_serde::Value::as_sequence).cloned().unwrap_or_default();
            let events = properties.get("Events").and_then(yaml_serde::Value::as_mapping).into_iter().flatten();
            let routes = events
                .filter(|(_, event)| event["Type"] == "HttpApi")
                .filter_map(|(_, event)| {
                    let event = &event["Properties"];
                    Some(format!("{} {}", text(event.get("Method"))?.to_uppercase(), text(event.get("Path"))?))
                })
                .collect();
            let declared = Declared {
                logical_id: id.as_str()?.to_owned(),
                secrets: environment
                    .iter()
                    .filter(|(name, value)| name.as_str() == secret_name(value).as_deref())
                    .filter_map(|(name, _)| name.as_str().map(str::to_owned))
                    .collect(),
                environment: environment.keys().filter_map(|name| name.as_str().map(str::to_owned)).collect(),
                readable: policies.iter().filter_map(|policy| readable_secret(&resources, policy)).collect(),
                actions: policies.iter().flat_map(actions).collect(),
                routes,
            };
            Some((name, declared))
        })
        .collect()
}

/// The routes of an `OpenAPI` document, with the operation's id.
fn operations(document: &Value) -> BTreeMap<String, String> {
    let paths = document["paths"].as_object().into_iter().flatten();
    paths
        .flat_map(|(path, item)| {
            item.as_object().into_iter().flatten().filter(|(_, operation)| operation["operationId"].is_string()).map(
                move |(method, operation)| {
                    let id = operation["operationId"].as_str().unwrap_or_default().to_owned();
                    (format!("{} {path}", method.to_uppercase()), id)
                },
            )
        })
        .collect()
}

#[test]
fn every_binary_is_a_function_of_the_template_and_every_function_a_binary() {
    let binaries: Names = binaries().into_keys().collect();
    let functions: Names = template().into_keys().collect();
    let difference: Vec<_> = binaries.symmetric_difference(&functions).collect();
    assert!(difference.is_empty(), "in functions/Cargo.toml or in template.yaml, but not in both: {difference:?}");
}

#[test]
fn a_functions_logical_id_is_its_name_in_camel_case() {
    for (name, declared) in template() {
        let camel: String = name
            .split('-')
            .map(|word| {
                word.chars().take(1).flat_map(char::to_uppercase).chain(word.chars().skip(1)).collect::<String>()
            })
            .collect();
        assert_eq!(declared.logical_id, format!("{camel}Function"));
    }
}

#[test]
fn every_function_gets_exactly_the_variables_it_reads() {
    for (name, declared) in template() {
        let description = description(&name);
        assert_eq!(description["x-tuberry"]["function"], name.as_str(), "the name in the wiring of {name}");
        assert_eq!(declared.environment, names(&description["x-tuberry"]["environment"]), "the variables of {name}");
    }
}

/// A value in a function's environment can be read by whoever may look at the function.
#[test]
fn every_function_gets_the_names_of_its_secrets_and_may_read_those_and_no_others() {
    let mut all = Names::new();
    for (name, declared) in template() {
        let secrets = names(&description(&name)["x-tuberry"]["secrets"]);
        assert_eq!(declared.secrets, secrets, "the variables of {name} that name secrets");
        assert_eq!(declared.readable, secrets, "the secrets that the role of {name} may read");
        let is_of_queues = |action: &String| action.starts_with("sqs:");
        assert!(declared.actions.iter().all(is_of_queues), "{name} reads secrets by a policy of its own");
        all.extend(secrets);
    }
    assert!(all.len() >= 7, "{all:?}");
    assert!(
        !read("template.yaml").contains("{{resolve:"),
        "CloudFormation would put the text of a secret into the function"
    );
}

#[test]
fn every_route_of_the_template_is_served_by_its_binary_and_stands_in_the_openapi_file() {
    let published: Value = serde_json::from_str(&read("functions/api/openapi.json")).unwrap_or_default();
    let published = operations(&published);
    let mut routes = Names::new();
    for (name, declared) in template() {
        let described = operations(&description(&name));
        assert_eq!(declared.routes, described.keys().cloned().collect(), "the routes of {name}");
        for (route, id) in described {
            assert_eq!(id, name, "the operationId of {route}");
            assert_eq!(published.get(&route), Some(&name), "{route} in functions/api/openapi.json; run `make openapi`");
            routes.insert(route);
        }
    }
    assert_eq!(published.into_keys().collect::<Names>(), routes, "routes that only functions/api/openapi.json has");
}

#[test]
fn every_operation_of_the_openapi_file_is_as_its_binary_describes_it() {
    let published: Value = serde_json::from_str(&read("functions/api/openapi.json")).unwrap_or_default();
    for name in binaries().keys() {
        let described = description(name);
        for (path, item) in described["paths"].as_object().into_iter().flatten() {
            for (method, operation) in item.as_object().into_iter().flatten() {
                let stored = &published["paths"][path][method];
                assert_eq!(stored, operation, "{method} {path} is outdated; run `make openapi`");
            }
        }
    }
}

#[test]
fn an_endpoints_source_stands_in_the_folder_that_its_url_names() {
    for (name, source) in binaries() {
        let Some(folder) = source.strip_prefix("api/").and_then(|path| path.rsplit_once('/').map(|(folder, _)| folder))
        else {
            continue;
        };
        for route in operations(&description(&name)).keys() {
            let words: Vec<_> = route.split('/').skip(2).filter(|word| !word.starts_with('{')).collect();
            let path = words.join("/");
            assert!(path.starts_with(folder), "{route} is served from functions/{source}");
        }
    }
}
