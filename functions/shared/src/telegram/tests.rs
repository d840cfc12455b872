//! The transport against a server of a few lines, and against the official description of the Bot API.

use std::{path::PathBuf, time::Duration};

use frankenstein::{AsyncTelegramApi, input_file::FileUpload, methods};
use serde_json::{Value, json};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpListener,
    task::JoinHandle,
};

use super::*;
use crate::platform::{certainty::Certainty, secrets::Secret};

const TOKEN: &str = "123456789:AAFakeTokenForTestsOnly_abcdefghijklmn";

/// The server's reaction to the one request that it gets.
enum Act {
    Answer(u16, &'static str),
    Reset,
    Silence,
}

/// A bot whose server acts once; the handle returns the request that the server got.
async fn server(act: Act) -> (Bot, JoinHandle<String>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let base = format!("http://{}", listener.local_addr().expect("an address"));
    let handle = tokio::spawn(async move {
        let (mut socket, _) = listener.accept().await.expect("a connection");
        let mut request = Vec::new();
        while !is_whole(&request) {
            let mut chunk = [0; 4096];
            let read = socket.read(&mut chunk).await.expect("a request");
            assert!(read > 0, "the request was cut");
            request.extend_from_slice(&chunk[..read]);
        }
        match act {
            Act::Answer(status, body) => {
                let answer = format!("HTTP/1.1 {status} S\r\ncontent-length: {}\r\n\r\n{body}", body.len());
                socket.write_all(answer.as_bytes()).await.expect("an answer");
            }
            Act::Reset => drop(socket),
            Act::Silence => tokio::time::sleep(Duration::from_secs(5)).await,
        }
        String::from_utf8(request).expect("text")
    });
    (bot(&base), handle)
}

fn is_whole(request: &[u8]) -> bool {
    let text = String::from_utf8_lossy(request).to_ascii_lowercase();
    let Some((head, body)) = text.split_once("\r\n\r\n") else { return false };
    let length = head.lines().find_map(|line| line.strip_prefix("content-length: ")?.parse().ok()).unwrap_or(0);
    body.len() >= length
}

fn bot(base: &str) -> Bot {
    let http = reqwest::Client::builder().no_proxy().build().expect("a client");
    Bot::new(http, base.parse().expect("an address"), Secret::new(TOKEN.to_owned()))
}

async fn sent(bot: &Bot) -> Result<Sent, Error> {
    bot.call("sendMessage", &json!({"chat_id": -1001, "text": "секрет"})).await
}

async fn answering(status: u16, body: &'static str) -> Bot {
    server(Act::Answer(status, body)).await.0
}

#[tokio::test]
async fn a_message_is_sent_and_its_id_read_whatever_else_the_answer_says() {
    let answer =
        r#"{"ok":true,"result":{"message_id":7,"message_thread_id":3,"chat":{"id":-1001,"type":"holochat"},"date":1}}"#;
    let (bot, request) = server(Act::Answer(200, answer)).await;
    let message = sent(&bot).await.expect("a message");
    assert_eq!((message.message_id, message.chat.id, message.message_thread_id), (7, -1001, Some(3)));
    let request = request.await.expect("a request");
    assert!(request.starts_with(&format!("POST /bot{TOKEN}/sendMessage HTTP")));
    assert!(request.ends_with(r#"{"chat_id":-1001,"text":"секрет"}"#));
}

#[tokio::test]
async fn the_methods_of_frankenstein_go_through_our_transport() {
    let (bot, request) = server(Act::Answer(200, r#"{"ok":true,"result":true}"#)).await;
    let params = methods::EditForumTopicParams::builder().chat_id(-1001).message_thread_id(3).name("Диван").build();
    assert!(bot.edit_forum_topic(&params).await.is_ok_and(|response| response.result));
    let request = request.await.expect("a request");
    assert!(request.starts_with(&format!("POST /bot{TOKEN}/editForumTopic HTTP")));

    let me = r#"{"ok":true,"result":{"id":123456789,"is_bot":true,"first_name":"Bot","username":"a_bot"}}"#;
    let me = answering(200, me).await.get_me().await.expect("a bot");
    assert_eq!(me.result.username.as_deref(), Some("a_bot"));
}

#[tokio::test]
async fn a_file_in_memory_is_uploaded_under_the_name_its_parameters_use() {
    let answer = r#"{"ok":true,"result":{"message_id":7,"chat":{"id":-1001}}}"#;
    let (bot, request) = server(Act::Answer(200, answer)).await;
    let voice = FileUpload::String("attach://voice_file".to_owned());
    let params = methods::SendVoiceParams::builder().chat_id(-1001).voice(voice).duration(3_u32).build();
    let file = Attachment { name: "voice_file".into(), file_name: "voice.ogg".into(), bytes: "OggS".into() };
    let message: Sent = bot.upload("sendVoice", &params, vec![file]).await.expect("a message");
    assert_eq!(message.message_id, 7);
    let request = request.await.expect("a request").to_lowercase();
    assert!(request.contains("content-length: ") && request.contains("multipart/form-data"));
    for part in ["name=\"voice\"\r\n\r\nattach://voice_file", "name=\"voice_file\"; filename=\"voice.ogg\"\r\n\r\noggs"]
    {
        assert!(request.contains(part), "{part} in {request}");
    }
}

#[tokio::test]
async fn a_file_on_a_disk_is_uploaded_by_the_methods_of_frankenstein() {
    let path = std::env::temp_dir().join(format!("tuberry-upload-{}.txt", std::process::id()));
    std::fs::write(&path, "content").expect("a file");
    let (bot, request) = server(Act::Answer(200, r#"{"ok":true,"result":true}"#)).await;
    let photo = frankenstein::input_file::InputFile { path: path.clone() };
    let params = methods::SetChatPhotoParams::builder().chat_id(-1001).photo(photo).build();
    let outcome = bot.set_chat_photo(&params).await;
    std::fs::remove_file(&path).expect("a file");
    assert!(outcome.is_ok());
    let request = request.await.expect("a request");
    assert!(request.contains("\r\n\r\ncontent\r\n") && !request.contains("\"path\""));
}

#[tokio::test]
async fn a_result_of_another_shape_does_not_count_as_a_lost_answer() {
    let odd = sent(&answering(200, r#"{"ok":true,"result":{"id":1}}"#).await).await;
    assert!(odd.is_err_and(|error| matches!(error, Error::Unreadable) && error.certainty() == Certainty::Done));
    for body in ["", "<html>", "{}"] {
        assert!(
            sent(&answering(200, body).await).await.is_err_and(|error| error.certainty() == Certainty::MaybeDone),
            "{body}"
        );
    }
    let hidden = r#"{"ok":false,"error_code":400,"description":"Bad Request: message thread not found"}"#;
    assert!(matches!(sent(&answering(200, hidden).await).await, Err(Error::ThreadNotFound)));
}

#[tokio::test]
async fn after_a_cut_or_silent_connection_the_outcome_is_unknown() {
    let (bot, _server) = server(Act::Reset).await;
    assert!(sent(&bot).await.is_err_and(|error| error.certainty() == Certainty::MaybeDone));
    let (bot, server) = server(Act::Silence).await;
    assert!(
        sent(&bot.with_timeout(Duration::from_millis(100)))
            .await
            .is_err_and(|error| error.certainty() == Certainty::MaybeDone)
    );
    server.abort();
}

#[tokio::test]
async fn a_refused_connection_means_that_nothing_was_sent_and_its_error_contains_no_token() {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let address = listener.local_addr().expect("an address");
    drop(listener);
    let error = sent(&bot(&format!("http://{address}"))).await.expect_err("no server listens");
    assert!(
        matches!(error, Error::NotSent(_)) && error.certainty() == Certainty::NotDone && error.retry_in().is_some()
    );
    let mut chain = format!("{error} {error:?}");
    let mut source = std::error::Error::source(&error);
    while let Some(inner) = source {
        chain = format!("{chain}: {inner} {inner:?}");
        source = inner.source();
    }
    assert!(!chain.contains("AAFake") && !chain.contains("секрет") && !chain.contains("sendMessage"), "{chain}");
}

#[tokio::test]
async fn a_token_with_strange_characters_leads_to_no_other_address() {
    let not_found = r#"{"ok":false,"error_code":404,"description":"Not Found"}"#;
    let (mut bot, request) = server(Act::Answer(404, not_found)).await;
    bot.token = Secret::new("1/../../x?y#z".to_owned());
    assert!(matches!(sent(&bot).await, Err(Error::BadToken)));
    assert!(request.await.expect("a request").starts_with("POST /bot1%2F%2E%2E%2F%2E%2E%2Fx%3Fy%23z/sendMessage HTTP"));
}

/// The official description. None: it is not at hand.
#[expect(clippy::print_stdout, reason = "a test that cannot run here says so")]
fn specification() -> Option<Value> {
    let beside = || PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../../shared/specs");
    let folder = std::env::var_os("TUBERRY_SPECS").map_or_else(beside, PathBuf::from);
    let Ok(text) = std::fs::read(folder.join("telegram-bot-api.json")) else {
        println!("telegram-bot-api.json is not at hand: not compared");
        return None;
    };
    Some(serde_json::from_slice(&text).expect("JSON"))
}

fn fields<'a>(specification: &'a Value, of: &str, name: &str) -> Vec<&'a str> {
    let fields = specification[of][name]["fields"].as_array().expect("fields");
    fields.iter().filter_map(|field| field["name"].as_str()).collect()
}

#[test]
fn every_field_of_a_message_is_known_as_content_notice_or_circumstance() {
    const CIRCUMSTANCES: &str = "message_id message_thread_id direct_messages_topic from sender_chat sender_boost_count \
        sender_business_bot sender_tag date guest_query_id business_connection_id chat forward_origin \
        is_topic_message is_automatic_forward reply_to_message external_reply quote reply_to_story \
        reply_to_checklist_task_id reply_to_poll_option_id via_bot guest_bot_caller_user \
        guest_bot_caller_chat edit_date has_protected_content is_from_offline is_paid_post media_group_id \
        author_signature paid_star_count text entities link_preview_options suggested_post_info effect_id \
        caption caption_entities show_caption_above_media has_media_spoiler reply_markup";
    const READ_NOTICES: &str = "forum_topic_created forum_topic_edited forum_topic_closed forum_topic_reopened migrate_to_chat_id \
        migrate_from_chat_id";
    let Some(specification) = specification() else { return };
    let media = content::MEDIA.iter().map(|(field, _)| *field);
    let words = [CIRCUMSTANCES, READ_NOTICES].into_iter().flat_map(str::split_whitespace);
    let mut ours: Vec<_> = media.chain(content::SERVICE.iter().copied()).chain(words).collect();
    let mut theirs = fields(&specification, "types", "Message");
    ours.sort_unstable();
    theirs.sort_unstable();
    assert_eq!(ours, theirs);
}

#[test]
fn every_word_read_of_updates_is_in_the_official_description() {
    let Some(specification) = specification() else { return };
    let read = [
        ("Update", ["update_id", "message", "edited_message", "channel_post", "my_chat_member"].as_slice()),
        ("ChatMemberUpdated", &["chat", "from", "date", "old_chat_member", "new_chat_member"]),
        ("ChatMemberAdministrator", &["status", "can_manage_topics", "can_delete_messages", "can_pin_messages"]),
        ("Chat", &["id", "type", "title", "is_forum"]),
        ("User", &["id", "is_bot", "first_name", "last_name", "username", "language_code"]),
    ];
    for (name, words) in read {
        let known = fields(&specification, "types", name);
        assert!(words.iter().all(|word| known.contains(word)), "{name}");
    }
}
