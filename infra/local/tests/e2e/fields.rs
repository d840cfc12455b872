//! Bodies that do not fit: the problem names the field, for every route and every field that the API describes.

use reqwest::Method;
use serde_json::{Map, Value, json};

use super::support::{Answer, Seller, Stack};

/// A value that no field takes, and that no problem may quote.
const ODD: &str = "odd-value-of-a-test";

/// A route that takes a JSON body.
struct Route {
    method: Method,
    path: String,
    fields: Map<String, Value>,
    required: Vec<String>,
}

/// Lists the routes of the API that take an object, from its description.
fn routes() -> Vec<Route> {
    let description: Value =
        serde_json::from_str(include_str!("../../../../functions/api/openapi.json")).expect("JSON");
    let mut routes = Vec::new();
    for (path, methods) in description["paths"].as_object().expect("paths") {
        for (method, operation) in methods.as_object().expect("methods") {
            let schema = &operation["requestBody"]["content"]["application/json"]["schema"];
            let Some(name) = schema["$ref"].as_str().and_then(|name| name.rsplit('/').next()) else { continue };
            let schema = &description["components"]["schemas"][name];
            let required = schema["required"].as_array().into_iter().flatten();
            routes.push(Route {
                method: method.to_uppercase().parse().expect("a method"),
                path: path.replace("{bot_id}", "1").replace("{account_id}", "1").replace("{dialog_id}", "1"),
                fields: schema["properties"].as_object().expect("properties").clone(),
                required: required.map(|field| field.as_str().expect("a name").to_owned()).collect(),
            });
        }
    }
    routes
}

impl Route {
    /// Returns a body in which each required field has a value of its type.
    fn body(&self) -> Map<String, Value> {
        let value = |field: &String| match self.fields[field]["type"].as_str() {
            Some("integer") => json!(1),
            Some("boolean") => json!(true),
            _ => json!("text"),
        };
        self.required.iter().map(|field| (field.clone(), value(field))).collect()
    }

    async fn send(&self, stack: &Stack, token: &str, body: &Map<String, Value>) -> Answer {
        let bearer = format!("Bearer {token}");
        let headers = [("content-type", "application/json"), ("authorization", bearer.as_str())];
        stack.call(self.method.clone(), &self.path, &headers, json!(body).to_string().into_bytes()).await
    }
}

/// Checks that a problem names the field, with a sentence that quotes nothing of it.
fn names_the_field(route: &Route, answer: &Answer, field: &str) {
    let (method, path) = (&route.method, &route.path);
    assert_eq!((answer.status, &answer.body["code"]), (422, &json!("invalid")), "{method} {path} {field}: {answer:?}");
    let error = &answer.body["errors"][0];
    let named = error["field"].as_str().expect("a field");
    assert!(named == field || named.starts_with(&format!("{field}.")), "{method} {path} {field}: {answer:?}");
    assert!(error["message"].as_str().is_some_and(|message| !message.is_empty()), "{answer:?}");
    assert!(!answer.body.to_string().contains(ODD), "{answer:?}");
}

#[tokio::test]
async fn a_body_that_does_not_fit_names_its_field_on_every_route() {
    let stack = Stack::new();
    let token = stack.newcomer().await;
    let routes = routes();
    assert!(routes.len() >= 7, "{} routes", routes.len());
    for route in &routes {
        for field in route.fields.keys() {
            for odd in [json!({ "key": [ODD] }), json!([ODD])] {
                let mut body = route.body();
                body.insert(field.clone(), odd);
                names_the_field(route, &route.send(&stack, &token, &body).await, field);
            }
        }
        for field in &route.required {
            let mut body = route.body();
            body.remove(field);
            names_the_field(route, &route.send(&stack, &token, &body).await, field);
        }
        let list = stack
            .call(
                route.method.clone(),
                &route.path,
                &[("content-type", "application/json"), ("authorization", &format!("Bearer {token}"))],
                b"[1]".to_vec(),
            )
            .await;
        assert_eq!((list.status, &list.body["errors"][0]["field"]), (422, &json!("body")), "{} {list:?}", route.path);
    }
}

#[tokio::test]
async fn the_id_of_a_group_is_taken_as_a_number_or_as_text_and_a_group_has_one_bot() {
    let (seller, other) = (Seller::new().await, Seller::new().await);
    let path = format!("/api/bots/{}", seller.bot_id);
    for same in [json!(seller.group), json!(seller.group.to_string())] {
        let answer = seller.patch(&path, &json!({ "group_chat_id": same })).await;
        assert_eq!((answer.status, &answer.body["group_chat_id"]), (200, &json!(seller.group)), "{answer:?}");
    }

    let chat = json!({ "chat_id": seller.group, "title": "Магазин", "is_forum": true, "bot_token": other.bot_token });
    other.stack.control("telegram/chats", &chat).await;
    let taken = other
        .patch(&format!("/api/bots/{}", other.bot_id), &json!({ "group_chat_id": seller.group.to_string() }))
        .await;
    assert_eq!((taken.status, &taken.body["code"]), (409, &json!("group_taken")), "{taken:?}");
}
