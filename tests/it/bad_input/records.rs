//! Records that must not be accepted, each with the class that the contract names for it, and good ones to mix them with.

use rapport::interaction::RejectClass::{self, *};

/// One input record and what must become of it.
#[derive(Debug, Clone)]
pub struct BadRecord {
    /// What is wrong with it.
    pub name: String,
    pub key: Option<Vec<u8>>,
    pub value: Vec<u8>,
    pub class: RejectClass,
}

/// Customer of the bad records.
pub const CUSTOMER: &str = "c-bad";
const GOOD: &str =
    r#"{"id":"i-1","customer_id":"c-bad","occurred_at":"2026-11-20T09:30:00Z","kind":"message","text":"where is my refund?"}"#;

/// A good interaction of customer `c<n % 5>`, some with everything that is tolerated.
pub fn good(n: usize) -> (String, Vec<u8>) {
    let customer = format!("c{}", n % 5);
    let odd = match n % 4 {
        0 => r#","zzz":[[[[{"deep":1e999}]]]],"rating":null"#.to_string(),
        1 => r#","actor":"","amount":-0.0,"text":"\ud83d\ude00 谢谢","attributes":{}"#.to_string(),
        2 => format!(r#","text":"{}""#, "way too long 太长 ".repeat(2_000)),
        _ => r#","kind":"a word of mine","language":"zh-Hant","about":"x""#.to_string(),
    };
    let minute = n % 60;
    let value = format!(
        r#"{{"id":"good-{n}","customer_id":"{customer}","occurred_at":"2026-11-21T10:{minute:02}:00+08:00","kind":"message"{odd}}}"#
    );
    (customer, value.into_bytes())
}

/// The good record with one piece replaced.
fn with(from: &str, to: &str) -> String {
    assert!(GOOD.contains(from), "{from}");
    GOOD.replace(from, to)
}

/// The good record with more members.
fn plus(members: &str) -> String {
    format!("{},{members}}}", &GOOD[..GOOD.len() - 1])
}

/// Records that are bad by themselves, without line breaks in them. Keys are right, so that nothing else is wrong with them.
pub fn bad_values() -> Vec<BadRecord> {
    let mut all: Vec<(&str, Vec<u8>, RejectClass)> = Vec::new();
    let mut add = |class, name, value: String| all.push((name, value.into_bytes(), class));

    add(MalformedJson, "truncated in a member", GOOD[..GOOD.len() - 30].into());
    add(MalformedJson, "truncated at the last brace", GOOD[..GOOD.len() - 1].into());
    add(MalformedJson, "truncated in an escape", r#"{"id":"\u00"#.into());
    add(MalformedJson, "NaN", plus(r#""amount":NaN"#));
    add(MalformedJson, "Infinity", plus(r#""amount":-Infinity"#));
    add(MalformedJson, "NaN in a field that nobody knows", plus(r#""x":NaN"#));
    add(MalformedJson, "byte order mark", format!("\u{feff}{GOOD}"));
    add(MalformedJson, "more behind the record", format!("{GOOD} x"));
    add(MalformedJson, "two records in one", format!("{GOOD}{GOOD}"));
    add(MalformedJson, "trailing comma", format!("{},}}", &GOOD[..GOOD.len() - 1]));
    add(MalformedJson, "single quotes", GOOD.replace('"', "'"));
    add(MalformedJson, "name without quotes", with("\"kind\"", "kind"));
    add(MalformedJson, "comment", format!("/* hello */{GOOD}"));
    add(MalformedJson, "control character in a string", with("where", "wh\tere"));
    add(MalformedJson, "zero byte in a string", with("where", "wh\0ere"));
    add(MalformedJson, "unknown escape", with("where", r"\where"));
    add(MalformedJson, "number with a leading zero", plus(r#""amount":01"#));
    add(MalformedJson, "hexadecimal number", plus(r#""amount":0x10"#));
    add(MalformedJson, "True as in Python", plus(r#""attributes":{"a":True}"#));
    add(MalformedJson, "deep nesting that never closes", "[".repeat(300_000));
    add(MalformedJson, "deep objects that never close", r#"{"a":"#.repeat(100_000));
    add(MalformedJson, "plain text", "hello".into());
    add(MalformedJson, "CSV", "i-1,c-bad,2026-11-20T09:30:00Z,message".into());

    add(NotAnObject, "array", format!("[{GOOD}]"));
    add(NotAnObject, "string", r#""i-1""#.into());
    add(NotAnObject, "number", "3".into());
    add(NotAnObject, "null", "null".into());
    add(NotAnObject, "true", "true".into());
    add(NotAnObject, "deep nesting that closes", format!("{}{}", "[".repeat(300_000), "]".repeat(300_000)));

    add(MissingField, "no id", with(r#""id":"i-1","#, ""));
    add(MissingField, "no customer_id", with(r#""customer_id":"c-bad","#, ""));
    add(MissingField, "no occurred_at", with(r#""occurred_at":"2026-11-20T09:30:00Z","#, ""));
    add(MissingField, "no kind", with(r#""kind":"message","#, ""));
    add(MissingField, "null id", with(r#""i-1""#, "null"));
    add(MissingField, "null customer_id", with(r#""c-bad""#, "null"));
    add(MissingField, "id only inside another object", format!(r#"{{"interaction":{GOOD}}}"#));
    add(MissingField, "empty object", "{}".into());
    add(MissingField, "names in capitals", GOOD.replace("\"id\"", "\"ID\""));
    add(MissingField, "a repeated id, the last one null", plus(r#""id":null"#));

    add(InvalidField, "empty id", with(r#""i-1""#, r#""""#));
    add(InvalidField, "empty customer_id", with(r#""c-bad""#, r#""""#));
    add(InvalidField, "id of 129 bytes", with("i-1", &"i".repeat(129)));
    add(InvalidField, "id of 129 bytes in 43 characters", with("i-1", &"中".repeat(43)));
    add(InvalidField, "customer_id of 129 bytes", with("c-bad", &"c".repeat(129)));
    add(InvalidField, "id as a number", with(r#""i-1""#, "17"));
    add(InvalidField, "customer_id as an array", with(r#""c-bad""#, r#"["c-bad"]"#));
    add(InvalidField, "year 9999", with("2026-11-20", "9999-12-31"));
    add(InvalidField, "year 2101", with("2026-11-20T09:30:00Z", "2101-01-01T00:00:00Z"));
    add(InvalidField, "before 1970", with("2026-11-20T09:30:00Z", "1969-12-31T23:59:59Z"));
    add(InvalidField, "before 1970 in UTC", with("2026-11-20T09:30:00Z", "1970-01-01T00:00:00+01:00"));
    add(InvalidField, "30 February", with("2026-11-20", "2026-02-30"));
    add(InvalidField, "time without a zone", with("09:30:00Z", "09:30:00"));
    add(InvalidField, "day without a time", with("T09:30:00Z", ""));
    add(InvalidField, "time as a number", with(r#""2026-11-20T09:30:00Z""#, "1795426200"));
    add(InvalidField, "time in words", with("2026-11-20T09:30:00Z", "yesterday"));
    add(InvalidField, "empty kind", with(r#""message""#, r#""""#));
    add(InvalidField, "kind of 65 bytes", with(r#""message""#, &format!("{:?}", "k".repeat(65))));
    add(InvalidField, "control character in kind", with(r#""message""#, r#""mess\u0007age""#));
    add(InvalidField, "C1 control character in kind", with(r#""message""#, r#""mess\u0085age""#));
    add(InvalidField, "kind as an object", with(r#""message""#, r#"{"name":"message"}"#));
    add(InvalidField, "unknown actor", plus(r#""actor":"robot""#));
    add(InvalidField, "actor as a boolean", plus(r#""actor":true"#));
    add(InvalidField, "text as a number", with(r#""where is my refund?""#, "5"));
    add(InvalidField, "text as an array of lines", with(r#""where is my refund?""#, r#"["where","is"]"#));
    add(InvalidField, "lone surrogate in the text", with("where", r"\ud83d"));
    add(InvalidField, "lone low surrogate in the text", with("where", r"\ude00"));
    add(InvalidField, "language with an underscore", plus(r#""language":"zh_CN""#));
    add(InvalidField, "language in words", plus(r#""language":"English, I think""#));
    add(InvalidField, "channel as a number", plus(r#""channel":4"#));
    add(InvalidField, "amount as a string", plus(r#""amount":"12.50""#));
    add(InvalidField, "negative amount", plus(r#""amount":-0.01"#));
    add(InvalidField, "amount beyond all numbers", plus(r#""amount":1e999"#));
    add(InvalidField, "quantity as a boolean", plus(r#""quantity":true"#));
    add(InvalidField, "negative quantity", plus(r#""quantity":-1"#));
    add(InvalidField, "currency in lower case", plus(r#""currency":"eur""#));
    add(InvalidField, "currency sign", plus(r#""currency":"€""#));
    add(InvalidField, "rating 7", plus(r#""rating":7"#));
    add(InvalidField, "rating 0", plus(r#""rating":0"#));
    add(InvalidField, "rating just above 5", plus(r#""rating":5.000001"#));
    add(InvalidField, "rating as a string", plus(r#""rating":"5""#));
    add(InvalidField, "a repeated rating, the last one wrong", plus(r#""rating":5,"rating":6"#));
    add(InvalidField, "about as a number", plus(r#""about":9"#));
    add(InvalidField, "attributes as an array", plus(r#""attributes":["a"]"#));
    add(InvalidField, "an attribute that is null", plus(r#""attributes":{"a":null}"#));
    add(InvalidField, "nested attributes", plus(r#""attributes":{"a":{"b":1}}"#));
    add(InvalidField, "deeply nested attributes", plus(&format!(r#""attributes":{}1{}"#, r#"{"a":"#.repeat(100_000), "}".repeat(100_000))));

    add(TooLarge, "one byte over 1 MiB", plus(&format!(r#""x":"{}""#, "x".repeat((1 << 20) + 1 - GOOD.len() - 7))));
    add(TooLarge, "text of 10 MB", with("where", &"long ".repeat(2_000_000)));

    let mut invalid = |name, bytes: &[u8]| {
        let at = GOOD.find("where").unwrap();
        let mut value = GOOD.as_bytes().to_vec();
        value.splice(at..at, bytes.iter().copied());
        all.push((name, value, InvalidUtf8));
    };
    invalid("Latin-1 text", b"caf\xe9 ");
    invalid("a byte that UTF-8 never has", b"\xff");
    invalid("half a character", b"\xe4\xb8");
    invalid("a surrogate in UTF-8", b"\xed\xa0\xbd");
    invalid("an overlong slash", b"\xc0\xaf");
    all.push(("UTF-16", GOOD.encode_utf16().flat_map(u16::to_le_bytes).chain([0xff, 0xfe]).collect(), InvalidUtf8));
    all.push(("gzip", vec![0x1f, 0x8b, 0x08, 0, 0, 0, 0, 0, 0, 0xff], InvalidUtf8));

    all.into_iter().map(|(name, value, class)| BadRecord { name: name.into(), key: Some(CUSTOMER.into()), value, class }).collect()
}

/// Records that are bad only where they have keys or a log time, or that no line of a file can be.
pub fn bad_in_a_log() -> Vec<BadRecord> {
    let mut all = Vec::new();
    let mut add = |class, name: &str, key: Option<&[u8]>, value: String| {
        all.push(BadRecord { name: name.into(), key: key.map(<[u8]>::to_vec), value: value.into_bytes(), class });
    };
    add(KeyMismatch, "null key", None, GOOD.into());
    add(KeyMismatch, "key of another customer", Some(b"c-1"), GOOD.into());
    add(KeyMismatch, "empty key", Some(b""), GOOD.into());
    add(KeyMismatch, "key that is no UTF-8", Some(b"\xff\xfe"), GOOD.into());
    add(KeyMismatch, "key with a space behind", Some(b"c-bad "), GOOD.into());
    let key = Some(CUSTOMER.as_bytes());
    add(Future, "in the year 2099", key, with("2026-11-20", "2099-11-20"));
    add(MalformedJson, "empty value", key, String::new());
    add(MalformedJson, "white space", key, " \r\n\t ".into());
    add(MalformedJson, "two lines of JSON Lines", key, format!("{GOOD}\n{GOOD}\n"));
    add(MalformedJson, "line break in a string", key, with("where", "wh\nere"));
    add(MissingField, "null key and no customer", None, "{\n}".into());
    all
}
