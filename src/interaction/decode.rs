//! Bytes to [`Interaction`]: every check that the contract names, none that it does not.
//!
//! Knows one record and its surroundings, no state: `late` and duplicates are the engine's to find.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt;

use serde::de::{Deserializer as _, MapAccess, Visitor};
use serde_json::value::RawValue;

use super::raw::{self, RawObject};
use super::{Actor, Attribute, Interaction, MAX_TEXT_BYTES, Reject, RejectClass, Timestamp, language};

/// The fields of the contract, in its order. The constants below are indices into it.
pub const FIELDS: [&str; 17] = [
    "id",
    "customer_id",
    "occurred_at",
    "kind",
    "actor",
    "conversation_id",
    "channel",
    "language",
    "item",
    "category",
    "text",
    "amount",
    "quantity",
    "currency",
    "rating",
    "about",
    "attributes",
];
const ID: usize = 0;
const CUSTOMER_ID: usize = 1;
const OCCURRED_AT: usize = 2;
const KIND: usize = 3;
const ACTOR: usize = 4;
const CONVERSATION_ID: usize = 5;
const CHANNEL: usize = 6;
const LANGUAGE: usize = 7;
const ITEM: usize = 8;
const CATEGORY: usize = 9;
const TEXT: usize = 10;
const AMOUNT: usize = 11;
const QUANTITY: usize = 12;
const CURRENCY: usize = 13;
const RATING: usize = 14;
const ABOUT: usize = 15;
const ATTRIBUTES: usize = 16;

const MAX_ID_BYTES: usize = 128;
const MAX_KIND_BYTES: usize = 64;
/// How far ahead of its log time an interaction may lie.
const MAX_AHEAD_MICROS: i64 = Timestamp::MICROS_PER_DAY;

/// What the record's surroundings say.
#[derive(Debug, Clone, Copy, Default)]
pub struct DecodeOptions<'a> {
    /// `Some(key)` where records have keys: the key must equal `customer_id`, a null key (`Some(None)`) never does.
    pub key: Option<Option<&'a [u8]>>,
    /// When the log took the record; an interaction over 24 h later than this is `future`.
    pub logged_at: Option<Timestamp>,
}

/// An accepted interaction and what was tolerated in it.
#[derive(Debug, Clone, PartialEq)]
pub struct Decoded {
    pub interaction: Interaction,
    /// Number of fields that the contract does not know.
    pub unknown_fields: usize,
    /// The text was over [`super::MAX_TEXT_BYTES`] and was cut.
    pub text_cut: bool,
}

/// Decodes and validates one record. Of a repeated member the last one counts.
///
/// # Errors
/// A [`Reject`] of the class that the contract names. Where a record has several faults, the one reported is the first in this order:
/// `too_large`, `invalid_utf8`, `malformed_json`, `not_an_object`, `missing_field`, `invalid_field` (fields in the contract's order),
/// `key_mismatch`, `future`.
pub fn decode(value: &[u8], options: DecodeOptions<'_>) -> Result<Decoded, Reject> {
    let fields = RawObject::parse(value, &FIELDS)?;
    fields.require(&[ID, CUSTOMER_ID, OCCURRED_AT, KIND])?;

    let id = fields.required_string(ID, MAX_ID_BYTES)?;
    let customer_id = fields.required_string(CUSTOMER_ID, MAX_ID_BYTES)?;
    let occurred_at = time(&fields)?;
    let kind = fields.required_string(KIND, MAX_KIND_BYTES)?;
    if kind.chars().any(char::is_control) {
        return Err(fields.invalid(KIND, "must have no control characters"));
    }
    let actor = match fields.string(ACTOR)?.as_deref() {
        None if kind == "campaign" => Actor::System,
        None | Some("customer") => Actor::Customer,
        Some("agent") => Actor::Agent,
        Some("system") => Actor::System,
        Some(_) => return Err(fields.invalid(ACTOR, "must be customer, agent or system")),
    };
    let conversation_id = fields.string(CONVERSATION_ID)?.map(boxed);
    let channel = fields.string(CHANNEL)?.map(boxed);
    let language = fields.string(LANGUAGE)?.map(boxed);
    if language.as_deref().is_some_and(|tag| !language::is_well_formed(tag)) {
        return Err(fields.invalid(LANGUAGE, "must be a BCP 47 tag such as en, pt-BR or zh-Hans"));
    }
    let item = fields.string(ITEM)?.map(boxed);
    let category = fields.string(CATEGORY)?.map(boxed);
    let mut text = fields.string(TEXT)?;
    let text_cut = text.as_ref().is_some_and(|t| t.len() > MAX_TEXT_BYTES);
    if text_cut {
        text = text.map(|t| t[..t.floor_char_boundary(MAX_TEXT_BYTES)].to_owned().into());
    }
    let amount = fields.number(AMOUNT, 0.0, f64::MAX, "must be a number of at least 0; what is paid back is of kind return")?;
    let quantity = fields.number(QUANTITY, 0.0, f64::MAX, "must be a number of at least 0")?;
    let currency = fields.string(CURRENCY)?.map(boxed);
    if currency.as_deref().is_some_and(|c| c.len() != 3 || !c.bytes().all(|b| b.is_ascii_uppercase())) {
        return Err(fields.invalid(CURRENCY, "must be an ISO 4217 code such as EUR"));
    }
    let rating = fields.number(RATING, 1.0, 5.0, "must be a number from 1 to 5")?;
    let about = fields.string(ABOUT)?.filter(|_| kind == "survey").map(boxed);
    let attributes = attributes(&fields)?;

    if let Some(key) = options.key {
        check_key(key, &customer_id)?;
    }
    if let Some(logged_at) = options.logged_at
        && occurred_at.0.saturating_sub(logged_at.0) > MAX_AHEAD_MICROS
    {
        let m =
            format!("occurred_at is {occurred_at}, more than 24 h after the record was logged at {logged_at}: check the producer's clock");
        return Err(Reject::new(RejectClass::Future, m));
    }
    Ok(Decoded {
        interaction: Interaction {
            id: boxed(id),
            customer_id: boxed(customer_id),
            occurred_at,
            kind: boxed(kind),
            actor,
            conversation_id,
            channel,
            language,
            item,
            category,
            text: text.map(boxed),
            amount,
            quantity,
            currency,
            rating,
            about,
            attributes,
        },
        unknown_fields: fields.unknown,
        text_cut,
    })
}

fn boxed(s: Cow<'_, str>) -> Box<str> {
    match s {
        Cow::Borrowed(s) => s.into(),
        Cow::Owned(s) => s.into(),
    }
}

fn time(fields: &RawObject<'_, 17>) -> Result<Timestamp, Reject> {
    const RIGHT: &str = "must be an RFC 3339 time in the years 1970 to 2100 such as 2026-11-23T09:30:00Z";
    fields.get(OCCURRED_AT).and_then(raw::unquote).and_then(|s| Timestamp::parse(&s).ok()).ok_or_else(|| fields.invalid(OCCURRED_AT, RIGHT))
}

fn check_key(key: Option<&[u8]>, customer_id: &str) -> Result<(), Reject> {
    let m = match key {
        Some(key) if key == customer_id.as_bytes() => return Ok(()),
        Some(key) => format!("the record's key is {:?}", raw::shorten(&String::from_utf8_lossy(key))),
        None => "the record has no key".into(),
    };
    Err(Reject::new(RejectClass::KeyMismatch, format!("{m}, it must equal customer_id, which is {:?}", raw::shorten(customer_id))))
}

fn attributes(fields: &RawObject<'_, 17>) -> Result<BTreeMap<Box<str>, Attribute>, Reject> {
    let mut out = BTreeMap::new();
    let Some(object) = fields.get(ATTRIBUTES) else { return Ok(out) };
    let mut members = Vec::new();
    if serde_json::Deserializer::from_str(object).deserialize_map(Members(&mut members)).is_err() {
        return Err(fields.invalid(ATTRIBUTES, "must be an object of strings, numbers and booleans"));
    }
    // Backwards, so that the last of a repeated name is the one that is read.
    for (name, raw) in members.into_iter().rev().map(|(n, v): (String, &RawValue)| (n, v.get())) {
        if out.contains_key(name.as_str()) {
            continue;
        }
        let value = match raw {
            "true" => Some(Attribute::Bool(true)),
            "false" => Some(Attribute::Bool(false)),
            _ => raw::unquote(raw).map(|s| Attribute::Text(boxed(s))).or_else(|| raw::number(raw).map(Attribute::Number)),
        };
        let Some(value) = value else {
            let name = format!("attributes.{}", raw::shorten(&name));
            return Err(raw::invalid(&name, raw, "must be a string, a number or a boolean"));
        };
        out.insert(name.into(), value);
    }
    Ok(out)
}

/// Collects the members of an object in their order, values unparsed.
struct Members<'v, 'a>(&'v mut Vec<(String, &'a RawValue)>);

impl<'a> Visitor<'a> for Members<'_, 'a> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON object")
    }

    fn visit_map<A: MapAccess<'a>>(self, mut map: A) -> Result<(), A::Error> {
        while let Some(member) = map.next_entry()? {
            self.0.push(member);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const MINIMAL: &str = r#"{"id":"i-1","customer_id":"c-1","occurred_at":"2026-11-23T09:30:00Z","kind":"message"}"#;

    fn accept(record: &str) -> Decoded {
        decode(record.as_bytes(), DecodeOptions::default()).unwrap_or_else(|e| panic!("{record}: {e}"))
    }

    fn refuse(record: &str, options: DecodeOptions<'_>) -> Reject {
        decode(record.as_bytes(), options).expect_err(record)
    }

    /// `MINIMAL` with more members at its end.
    fn with(members: &str) -> String {
        format!("{},{members}}}", &MINIMAL[..MINIMAL.len() - 1])
    }

    #[test]
    fn optional_fields_may_be_absent_null_or_empty() {
        let plain = accept(MINIMAL);
        let nulls = FIELDS[4..].iter().map(|f| format!("{f:?}:null")).collect::<Vec<_>>().join(",");
        let empty = FIELDS[4..11].iter().chain(["currency", "about"].iter()).map(|f| format!("{f:?}:\"\"")).collect::<Vec<_>>().join(",");
        assert_eq!(accept(&with(&nulls)), plain);
        assert_eq!(accept(&with(&empty)), plain);
        assert_eq!((plain.unknown_fields, plain.text_cut, plain.interaction.actor), (0, false, Actor::Customer));
    }

    #[test]
    fn a_campaign_is_the_systems_unless_it_says_otherwise() {
        let campaign = MINIMAL.replace("message", "campaign");
        assert_eq!(accept(&campaign).interaction.actor, Actor::System);
        assert_eq!(accept(&campaign.replace("\"kind\"", "\"actor\":\"agent\",\"kind\"")).interaction.actor, Actor::Agent);
    }

    #[test]
    fn about_counts_on_a_survey_alone() {
        let record = with(r#""rating":2.5,"about":"i-0""#);
        assert_eq!(accept(&record).interaction.about, None);
        assert_eq!(accept(&record.replace("message", "survey")).interaction.about.as_deref(), Some("i-0"));
    }

    #[test]
    fn unknown_members_are_counted_whatever_they_hold() {
        let deep = format!("{}{}", "[".repeat(200_000), "]".repeat(200_000));
        let got = accept(&with(&format!(r#""x":1e999,"\ud800":1,"y":"\udfff","z":{deep}"#)));
        assert_eq!(got.unknown_fields, 4);
        assert_eq!(got.interaction, accept(MINIMAL).interaction);
    }

    #[test]
    fn a_name_may_be_escaped_but_holds_no_bare_control_character() {
        assert_eq!(accept(&with(r#""\u0061ctor":"agent""#)).interaction.actor, Actor::Agent);
        assert_eq!(accept(&with(r#""\u0000":1"#)).unknown_fields, 1);
        let reject = refuse(&with("\"ac\0tor\":1"), DecodeOptions::default());
        assert_eq!(reject.class, RejectClass::MalformedJson, "{reject}");
    }

    #[test]
    fn of_a_repeated_member_the_last_counts() {
        assert_eq!(&*accept(&with(r#""id":"i-2""#)).interaction.id, "i-2");
        assert_eq!(accept(&with(r#""rating":7,"rating":null"#)).interaction.rating, None);
        assert_eq!(refuse(&with(r#""id":null"#), DecodeOptions::default()).class, RejectClass::MissingField);
        let attributes = accept(&with(r#""attributes":{"a":[],"a":1}"#)).interaction.attributes;
        assert_eq!(attributes.into_iter().collect::<Vec<_>>(), [("a".into(), Attribute::Number(1.0))]);
    }

    #[test]
    fn a_long_text_is_cut_between_characters() {
        for (character, kept) in [("a", MAX_TEXT_BYTES), ("中", MAX_TEXT_BYTES / 3 * 3), (r"\u00e9", MAX_TEXT_BYTES)] {
            let got = accept(&with(&format!(r#""text":"{}""#, character.repeat(MAX_TEXT_BYTES + 1))));
            assert_eq!((got.text_cut, got.interaction.text.map(|t| t.len())), (true, Some(kept)), "{character}");
        }
        let got = accept(&with(&format!(r#""text":"{}""#, "a".repeat(MAX_TEXT_BYTES))));
        assert_eq!((got.text_cut, got.interaction.text.map(|t| t.len())), (false, Some(MAX_TEXT_BYTES)));
    }

    #[test]
    fn the_key_must_be_the_customer() {
        let key = |key| DecodeOptions { key: Some(key), logged_at: None };
        assert!(decode(MINIMAL.as_bytes(), key(Some(b"c-1"))).is_ok());
        for wrong in [None, Some(&b"c-2"[..]), Some(b""), Some(b"\xff")] {
            assert_eq!(refuse(MINIMAL, key(wrong)).class, RejectClass::KeyMismatch);
        }
    }

    #[test]
    fn more_than_a_day_after_its_log_time_is_future() {
        let logged = |s| DecodeOptions { key: None, logged_at: Some(Timestamp::parse(s).expect("a time")) };
        assert!(decode(MINIMAL.as_bytes(), logged("2026-11-22T09:30:00Z")).is_ok());
        assert_eq!(refuse(MINIMAL, logged("2026-11-22T09:29:59.999999Z")).class, RejectClass::Future);
    }

    #[test]
    fn messages_name_the_field_quote_a_short_value_and_say_what_is_right() {
        let long = format!(r#""currency":"{}""#, "€".repeat(100));
        assert_eq!(
            refuse(&with(&long), DecodeOptions::default()).message,
            format!("currency is the string \"{}…: must be an ISO 4217 code such as EUR", "€".repeat(15))
        );
        assert_eq!(
            refuse(&with("\"attributes\":{\"a\":{\n}}"), DecodeOptions::default()).message,
            "attributes.a is the object { }: must be a string, a number or a boolean"
        );
        assert_eq!(refuse(r#"{"id":"x"}"#, DecodeOptions::default()).message, "customer_id is absent, it is required");
        assert_eq!(refuse("\n 3 ", DecodeOptions::default()).message, "the record is the number 3, it must be a JSON object");
    }

    prop_compose! {
        fn interaction()(
            (id, customer_id) in ("\\PC{1,30}", "\\PC{1,30}"),
            occurred_at in 0i64..4_133_980_800_000_000,
            kind in prop_oneof![Just("survey".to_string()), "[^\\x00-\\x1f\\x7f-\\u{9f}]{1,16}"],
            actor in prop_oneof![Just(Actor::Customer), Just(Actor::Agent), Just(Actor::System)],
            strings in prop::array::uniform5(prop::option::of("(?s).{1,20}")),
            language in prop::option::of("[a-z]{2}-[A-Z]{2}"),
            text in prop::option::of("(?s).{1,200}"),
            numbers in prop::array::uniform2(prop::option::of(0.0..1e300f64)),
            currency in prop::option::of("[A-Z]{3}"),
            rating in prop::option::of(1.0..=5.0f64),
            attributes in prop::collection::btree_map("(?s).{0,8}", prop_oneof![
                "(?s).{0,8}".prop_map(|s| Attribute::Text(s.into())),
                any::<f64>().prop_filter("finite", |x| x.is_finite()).prop_map(Attribute::Number),
                any::<bool>().prop_map(Attribute::Bool),
            ], 0..4),
        ) -> Interaction {
            let [conversation_id, channel, item, category, about] = strings.map(|s| s.map(String::into_boxed_str));
            Interaction {
                about: about.filter(|_| kind == "survey"),
                id: id.into(), customer_id: customer_id.into(), occurred_at: Timestamp(occurred_at), kind: kind.into(), actor, conversation_id,
                channel, language: language.map(Into::into), item, category, text: text.map(Into::into), amount: numbers[0],
                quantity: numbers[1], currency: currency.map(Into::into), rating,
                attributes: attributes.into_iter().map(|(k, v)| (k.into(), v)).collect(),
            }
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(4096))]
        #[test]
        fn what_is_written_reads_back(interaction in interaction()) {
            let json = serde_json::to_vec(&interaction).expect("serialises");
            let key = DecodeOptions { key: Some(Some(interaction.customer_id.as_bytes())), logged_at: Some(interaction.occurred_at) };
            let read = decode(&json, key).expect("valid");
            prop_assert_eq!(read, Decoded { interaction, unknown_fields: 0, text_cut: false });
        }

        #[test]
        fn any_bytes_end_in_a_class_and_never_in_a_panic(cut in 0usize..600, at in 0usize..600, byte: u8, interaction in interaction()) {
            let mut json = serde_json::to_vec(&interaction).expect("serialises");
            json.truncate(json.len().saturating_sub(cut));
            if let Some(b) = json.get_mut(at) {
                *b = byte;
            }
            // The reference parser decides between JSON and no JSON.
            let is_json = serde_json::from_slice::<serde::de::IgnoredAny>(&json).is_ok();
            if let Err(reject) = decode(&json, DecodeOptions::default()) {
                let no_json = matches!(reject.class, RejectClass::MalformedJson | RejectClass::InvalidUtf8);
                prop_assert!(no_json || is_json, "{}", reject);
            } else {
                prop_assert!(is_json);
            }
        }
    }
}
