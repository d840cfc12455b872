use super::*;

const TOKEN: &str = "123456789:AAFakeTokenForTestsOnly_abcdefghijklmn";
const SIGNED_AT: i64 = 1_767_225_600;
const A: &str = "3e0edf0aca4e3f2dffd171b46374dfa7f990adc668c6b2136ff3f256eb82d107";
const B: &str = "44bd1d9afdc0bcae830d1b64a4ac089a9a9d816a5677d1108371f85815003fe3";
const B_WITH_SPACE: &str = "e25d26ea914519a24bdedcba220e75e2020a90e2cce45025f300d41a0ccfe1d7";

fn fields(lines: &str, hash: &str) -> BTreeMap<String, String> {
    let pairs = lines.lines().filter_map(|line| line.split_once('='));
    let mut fields: BTreeMap<_, _> = pairs.map(|(name, value)| (name.to_owned(), value.to_owned())).collect();
    fields.insert("hash".to_owned(), hash.to_owned());
    fields
}

fn full() -> BTreeMap<String, String> {
    let lines = "auth_date=1767225600\nfirst_name=Ivan\nid=987654321\nlast_name=Petrov\nphoto_url=https://t.me/i/userpic/320/ivan_test.jpg\nusername=ivan_test";
    fields(lines, A)
}

fn short(first_name: &str, hash: &str) -> BTreeMap<String, String> {
    fields(&format!("auth_date=1767225600\nfirst_name={first_name}\nid=987654322"), hash)
}

fn verify(fields: &BTreeMap<String, String>, seconds_later: i64) -> Result<WidgetUser, WidgetError> {
    let now = Timestamp::from_second(SIGNED_AT + seconds_later).expect("a time");
    verify_widget(fields, &Secret::new(TOKEN.to_owned()), now)
}

#[test]
fn data_signed_by_telegram_is_accepted() {
    let ivan = verify(&full(), 60).expect("vector A");
    assert_eq!((ivan.id, ivan.first_name.as_str(), ivan.username.as_deref()), (987_654_321, "Ivan", Some("ivan_test")));
    assert_eq!((hex::encode(ivan.digest).as_str(), ivan.auth_date.as_second()), (A, SIGNED_AT));
    let anna = verify(&short("Анна", B), 60).expect("vector B");
    assert_eq!((anna.first_name.as_str(), anna.last_name), ("Анна", None));
}

#[test]
fn a_changed_field_breaks_the_signature() {
    assert_eq!(verify(&short("Анна ", B), 60), Err(WidgetError::WrongSignature));
    assert!(verify(&short("Анна ", B_WITH_SPACE), 60).is_ok());
    for name in ["id", "auth_date", "username", "photo_url"] {
        let mut fields = full();
        fields.entry(name.to_owned()).and_modify(|value| value.push('1'));
        assert_eq!(verify(&fields, 60), Err(WidgetError::WrongSignature), "{name}");
    }
    let mut more = full();
    more.insert("role".to_owned(), "admin".to_owned());
    assert_eq!(verify(&more, 60), Err(WidgetError::WrongSignature));
    let mut less = full();
    less.remove("username");
    assert_eq!(verify(&less, 60), Err(WidgetError::WrongSignature));
}

#[test]
fn data_signed_for_another_bot_is_refused() {
    let now = Timestamp::from_second(SIGNED_AT).expect("a time");
    let other = Secret::new("123456789:AAAnotherTokenForTests".to_owned());
    assert_eq!(verify_widget(&full(), &other, now), Err(WidgetError::WrongSignature));
}

#[test]
fn a_sign_in_is_accepted_for_five_minutes() {
    assert!(verify(&full(), 0).is_ok() && verify(&full(), 300).is_ok());
    assert_eq!(verify(&full(), 301), Err(WidgetError::Expired));
    assert!(verify(&full(), -5).is_ok());
    assert_eq!(verify(&full(), -6), Err(WidgetError::FromTheFuture));
}

#[test]
fn a_field_that_telegram_cannot_have_made_is_refused() {
    let odd = [
        ("id", "abc"),
        ("id", "+987654321"),
        ("id", "-1"),
        ("id", "0"),
        ("id", ""),
        ("id", "99999999999999999999"),
        ("auth_date", "yesterday"),
        ("auth_date", "9223372036854775807"),
        ("first_name", "Ivan\nid=1"),
        ("last_name", "\u{0}"),
        ("username", "a\u{85}b"),
        ("hash", "xyz"),
        ("hash", "3e0e"),
    ];
    for (name, value) in odd {
        let mut fields = full();
        fields.insert(name.to_owned(), value.to_owned());
        assert_eq!(verify(&fields, 60), Err(WidgetError::Malformed), "{name}={value}");
    }
    for name in ["id", "auth_date", "hash", "first_name"] {
        let mut fields = full();
        fields.remove(name);
        assert_eq!(verify(&fields, 60), Err(WidgetError::Malformed), "{name}");
    }
}

#[test]
fn an_answer_in_capitals_has_the_same_digest() {
    let mut fields = full();
    fields.insert("hash".to_owned(), A.to_uppercase());
    assert_eq!(verify(&fields, 60).map(|user| user.digest), verify(&full(), 60).map(|user| user.digest));
}
