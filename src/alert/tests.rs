//! The rules of `docs/alerts.md` as scripts: a customer's values in, the alerts that a person would want out.

use super::{AlertKind, AlertState, AlertStates, Observation, Policies, PolicyConfig, Severity, Transition};
use crate::interaction::Timestamp;

const HOUR: i64 = 3_600_000_000;

/// One customer under one configuration; every call is one more interaction.
struct Customer {
    policies: Policies,
    states: AlertStates,
    at: i64,
    count: u32,
    baseline: f32,
}

impl Customer {
    fn new(toml: &str) -> Self {
        let policies = if toml.is_empty() { Policies::standard() } else { parse(toml).expect("valid") };
        Self { policies, states: AlertStates::default(), at: 1_000 * HOUR, count: 0, baseline: 3.1 }
    }

    fn see(&mut self, hours: i64, satisfaction: Option<f32>, rating: Option<f32>) -> Option<Transition> {
        self.at += hours * HOUR;
        self.count += 1;
        let observation = Observation {
            customer_id: "c-1",
            interaction_id: &format!("i-{}", self.count),
            at: Timestamp(self.at),
            satisfaction,
            dissatisfied: satisfaction.map(|v| ((3.6 - v) / 2.0).clamp(0.0, 1.0)),
            baseline: self.baseline,
            earlier_values: self.count - 1,
            rating,
        };
        self.policies.observe(&mut self.states, observation)
    }

    fn value(&mut self, hours: i64, value: f32) -> Option<Transition> {
        self.see(hours, Some(value), None)
    }

    fn states_of(&mut self, values: &[f32]) -> Vec<(AlertState, Severity)> {
        values.iter().filter_map(|v| self.value(1, *v)).map(|t| (t.state, t.severity)).collect()
    }
}

fn parse(toml: &str) -> Result<Policies, String> {
    #[derive(serde::Deserialize)]
    struct File {
        alerts: Vec<PolicyConfig>,
    }
    Policies::new(toml::from_str::<File>(toml).map_err(|e| e.to_string())?.alerts)
}

use AlertState::{Escalated, Raised, Resolved};
use Severity::{Critical, Warning};

const LOW: &str = "[[alerts]]\nname = 'low'\nkind = 'satisfaction_low'\nraise = 2.5\n";
const DROP: &str = "[[alerts]]\nname = 'drop'\nkind = 'satisfaction_drop'\n";
const RATING: &str = "[[alerts]]\nname = 'rating'\nkind = 'rating_low'\n";

#[test]
fn an_unhappy_spell_is_one_alert_from_raised_to_resolved() {
    let got = Customer::new("").states_of(&[3.1, 3.0, 3.2, 2.4, 2.3, 2.6, 2.7, 3.0, 3.1]);
    assert_eq!(got, [(Raised, Warning), (Resolved, Warning)]);
}

#[test]
fn values_that_oscillate_around_a_threshold_raise_once() {
    // Around the raise level: never above the resolve level, so the one alert stays open.
    let around_raise: Vec<f32> = (0..200).map(|i| if i % 2 == 0 { 2.49 } else { 2.51 }).collect();
    assert_eq!(Customer::new(&format!("{LOW}escalate_after = 0")).states_of(&around_raise), [(Raised, Warning)]);
    // Across the whole band, an hour apart: the cooldown of a day lets one episode begin per day at most.
    let across: Vec<f32> = (0..240).map(|i| if i % 2 == 0 { 2.4 } else { 2.9 }).collect();
    let raised = Customer::new(LOW).states_of(&across).iter().filter(|(s, _)| *s == Raised).count();
    assert!((2..=10).contains(&raised), "{raised} in ten days");
}

#[test]
fn one_drop_is_one_alert_whichever_policies_see_it_and_when() {
    let mut c = Customer::new("");
    for _ in 0..3 {
        assert_eq!(c.value(1, 3.1), None);
    }
    let raised = c.value(1, 2.4).expect("low and drop at once");
    assert_eq!((raised.kind, raised.also.as_slice()), (AlertKind::SatisfactionLow, [AlertKind::SatisfactionDrop].as_slice()));
    // Above the level but still far below the baseline: the drop waits on, silently.
    c.baseline = 3.4;
    assert_eq!(c.value(1, 2.9), None);
    assert_eq!(c.value(1, 3.0), None);
    assert_eq!(c.value(1, 3.3).map(|t| t.state), Some(Resolved));

    // The drop is seen first and the level later.
    let mut c = Customer::new("");
    c.baseline = 3.1;
    for _ in 0..3 {
        assert_eq!(c.value(1, 3.1), None);
    }
    assert_eq!(c.value(1, 2.65).map(|t| t.kind), Some(AlertKind::SatisfactionDrop));
    assert_eq!(c.value(1, 2.4), None, "the level joins the open episode");
    assert_eq!(c.value(1, 3.0).map(|t| (t.kind, t.state)), Some((AlertKind::SatisfactionDrop, Resolved)));
    assert_eq!(c.value(1, 2.45), None, "what joined cools down, too");
}

#[test]
fn a_drop_needs_three_earlier_values() {
    let mut c = Customer::new(DROP);
    assert_eq!(c.states_of(&[2.4, 2.4, 2.4]), [], "0, 1, 2 earlier values");
    assert_eq!(c.value(1, 2.4).map(|t| t.state), Some(Raised));
}

#[test]
fn a_drop_that_stays_is_over_when_it_has_become_usual() {
    let mut c = Customer::new(DROP);
    c.baseline = 4.0;
    assert_eq!(c.states_of(&[4.0, 4.0, 4.0, 3.5, 3.5]), [(Raised, Warning)]);
    c.baseline = 3.6;
    assert_eq!(c.states_of(&[3.5]), [(Resolved, Warning)]);
}

#[test]
fn worse_is_critical_once() {
    let mut c = Customer::new(&format!("{LOW}escalate_after = 0"));
    assert_eq!(c.states_of(&[2.4, 2.0, 1.5, 2.2, 1.9, 3.0]), [(Raised, Warning), (Escalated, Critical), (Resolved, Critical)]);
    let mut c = Customer::new(LOW);
    assert_eq!(c.states_of(&[1.9, 1.2, 3.0]), [(Raised, Critical), (Resolved, Critical)], "critical from the start cannot escalate");
}

#[test]
fn open_for_long_is_critical() {
    let mut c = Customer::new(&format!("{LOW}escalate_after = 3"));
    assert_eq!(c.states_of(&[2.4]), [(Raised, Warning)]);
    assert_eq!(c.see(1, None, None), None, "an agent's message does not count");
    assert_eq!(c.states_of(&[2.6, 2.6]), []);
    assert_eq!(c.states_of(&[2.6, 2.6]), [(Escalated, Critical)]);
}

#[test]
fn critical_goes_before_order() {
    let mut c = Customer::new(&format!("{LOW}{RATING}"));
    let t = c.see(1, Some(2.4), Some(1.0)).expect("both");
    assert_eq!(
        (t.kind, t.severity, t.value, t.also.as_slice()),
        (AlertKind::RatingLow, Critical, 1.0, [AlertKind::SatisfactionLow].as_slice())
    );
    let mut c = Customer::new(&format!("{LOW}{RATING}"));
    let t = c.see(1, Some(2.4), Some(2.0)).expect("both");
    assert_eq!(
        (t.kind, t.severity, t.value, t.also.as_slice()),
        (AlertKind::SatisfactionLow, Warning, 2.4, [AlertKind::RatingLow].as_slice())
    );
}

#[test]
fn cooldown_runs_in_event_time_and_never_backwards() {
    let mut c = Customer::new(LOW);
    assert_eq!(c.states_of(&[2.4, 3.0]), [(Raised, Warning), (Resolved, Warning)]);
    assert_eq!(c.value(-50, 2.4), None, "earlier than the end of the episode: no time has passed");
    assert_eq!(c.value(50 + 23, 2.4), None, "23 h");
    assert_eq!(c.value(1, 2.4).map(|t| t.state), Some(Raised), "24 h");
}

#[test]
fn a_better_rating_or_time_ends_a_low_rating() {
    let mut c = Customer::new(RATING);
    assert_eq!(c.see(1, None, Some(2.0)).map(|t| (t.state, t.severity)), Some((Raised, Warning)));
    assert_eq!(c.value(1, 4.5), None, "what the model expects does not take a rating back");
    assert_eq!(c.see(1, None, Some(2.5)).map(|t| (t.state, t.value)), Some((Resolved, 2.5)));

    let mut c = Customer::new(&format!("{RATING}expire_after = '10d'\ncooldown = '0s'"));
    assert_eq!(c.see(1, None, Some(2.0)).map(|t| t.state), Some(Raised));
    assert_eq!(c.see(200, None, Some(2.0)), None, "a second low rating prolongs it");
    assert_eq!(c.value(239, 3.0), None);
    assert_eq!(c.value(1, 3.0).map(|t| (t.state, t.value)), Some((Resolved, 3.0)));
    assert_eq!(c.see(1, None, Some(2.0)).map(|t| t.state), Some(Raised), "no cooldown configured");
}

#[test]
fn ids_are_stable_and_shared_by_an_episode() {
    let run = |customer: &str, policy: &str| {
        let mut c = Customer::new(&LOW.replace("'low'", &format!("'{policy}'")));
        let seen = |i, v: f32| Observation {
            customer_id: customer,
            interaction_id: i,
            at: Timestamp(0),
            satisfaction: Some(v),
            dissatisfied: None,
            baseline: 3.0,
            earlier_values: 0,
            rating: None,
        };
        let raised = c.policies.observe(&mut c.states, seen("i-1", 2.0)).expect("raised").id;
        let resolved = c.policies.observe(&mut c.states, seen("i-2", 3.0)).expect("resolved").id;
        assert_eq!(raised, resolved);
        raised
    };
    // Consumers keep these ids: a change here breaks them.
    assert_eq!(&*run("c-1", "low"), "efc46da311ff70e3356790942989199b");
    assert_ne!(run("c-1l", "ow"), run("c-1", "low"), "parts do not run together");
}

#[test]
fn a_policy_that_is_gone_is_forgotten_and_the_others_go_on() {
    let mut c = Customer::new(&format!("{LOW}{RATING}"));
    assert_eq!(c.value(1, 2.4).map(|t| t.state), Some(Raised));
    c.policies = parse(RATING).expect("valid");
    assert_eq!(c.see(1, Some(2.4), Some(1.0)).map(|t| (t.kind, t.state)), Some((AlertKind::RatingLow, Raised)));
    c.policies = parse(&format!("{RATING}{DROP}")).expect("valid");
    assert_eq!(c.see(1, Some(3.0), Some(4.0)).map(|t| (t.kind, t.state)), Some((AlertKind::RatingLow, Resolved)), "policies may move");
}

#[test]
fn a_happy_customer_stores_nothing() {
    let mut c = Customer::new("");
    assert_eq!(c.states_of(&[3.0; 50]), []);
    assert!(c.states.is_empty());
    c.states_of(&[2.0, 3.1]);
    assert!(!c.states.is_empty());
    c.value(24, 3.1);
    assert!(c.states.is_empty(), "cooled down");
}

#[test]
fn without_alerts_in_the_configuration_the_standard_ones_hold() {
    let toml: String = AlertKind::ALL.map(|k| format!("[[alerts]]\nname = '{0}'\nkind = '{0}'\n", k.name())).concat();
    assert_eq!(parse(&toml).expect("valid"), Policies::standard());
}

#[test]
fn wrong_configuration_names_policy_key_value_and_what_is_right() {
    for (toml, mentions) in [
        (format!("{LOW}resolve = 2.5"), vec!["\"low\"", "resolve = 2.5", "over raise"]),
        (LOW.replace("2.5", "7"), vec!["\"low\"", "raise = 7", "1 to 5"]),
        (LOW.replace("2.5", "nan"), vec!["raise = NaN", "1 to 5"]),
        (format!("{LOW}critical = 2.6"), vec!["critical = 2.6", "1 to raise"]),
        (format!("{LOW}cooldown = '1 day'"), vec!["cooldown = \"1 day\"", "\"7d\""]),
        (format!("{LOW}resolve_dissatisfied = 0.3"), vec!["resolve_dissatisfied = 0.3", "without raise_dissatisfied"]),
        (format!("{LOW}raise_dissatisfied = 60"), vec!["raise_dissatisfied = 60", "probability"]),
        (
            format!("{LOW}raise_dissatisfied = 0.5\nresolve_dissatisfied = 0.5"),
            vec!["resolve_dissatisfied = 0.5", "below raise_dissatisfied"],
        ),
        (format!("{LOW}expire_after = '1d'"), vec!["expire_after", "satisfaction_low", "remove it"]),
        (format!("{DROP}raise = 0.0"), vec!["\"drop\"", "raise = 0", "over 0"]),
        (format!("{DROP}resolve = 0.7"), vec!["resolve = 0.7", "below raise"]),
        (format!("{DROP}raise_dissatisfied = 0.5"), vec!["raise_dissatisfied", "satisfaction_drop"]),
        (format!("{DROP}critical = 0.1"), vec!["critical = 0.1", "at least raise"]),
        (format!("{RATING}resolve = 1"), vec!["resolve = 1", "at least raise"]),
        (format!("{RATING}raise = 5"), vec!["resolve = 5", "below 5"]),
        (format!("{LOW}{LOW}"), vec!["\"low\"", "another policy"]),
        (LOW.replace("'low'", "''"), vec!["name = \"\"", "1 to 64"]),
        (LOW.replace("satisfaction_low", "unhappy"), vec!["unhappy", "satisfaction_low"]),
        (format!("{LOW}treshold = 3"), vec!["treshold", "raise"]),
        (format!("{LOW}severity = 'fatal'"), vec!["fatal", "critical"]),
        (format!("{LOW}escalate_after = -1"), vec!["escalate_after", "-1"]),
    ] {
        let message = parse(&toml).expect_err(&toml);
        assert!(mentions.iter().all(|m| message.contains(m)), "{toml}\n{message}");
    }
    let many: String = (0..65).map(|i| LOW.replace("'low'", &format!("'l{i}'"))).collect();
    assert!(parse(&many).expect_err("too many").contains("at most 64"));
}

#[test]
fn one_trigger_given_alone_raises_alone() {
    let mut c = Customer::new("[[alerts]]\nname = 'p'\nkind = 'satisfaction_low'\nraise_dissatisfied = 0.9\n");
    // Value 2.0 has probability 0.8 here.
    assert_eq!(c.states_of(&[2.0, 1.7]), [(Raised, Critical)]);
    let mut c = Customer::new(&LOW.replace("2.5", "1.5"));
    assert_eq!(c.states_of(&[1.6, 1.5]), [(Raised, Warning)], "the standard critical level lies above this raise level and is left out");
}
