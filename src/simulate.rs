//! Invented customers, for tests of size and speed: purchases, chats and tickets in English and Chinese, ratings, and customers who leave.
//!
//! Purchases and leaving follow BG/NBD (Fader, Hardie and Lee 2005): while a customer is active, episodes come as a Poisson process whose rate is
//! Gamma distributed over customers; after each purchase the customer leaves for good with a probability that is Beta distributed, and higher the
//! less satisfied. So the hours until an episode are Lomax distributed over customers. Knows no files; memory grows with customers alone.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap};

use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};

use crate::interaction::{Actor, Interaction, Timestamp};

/// What to invent.
#[derive(Debug, Clone, Copy)]
pub struct Settings {
    pub interactions: u64,
    pub customers: u32,
    pub seed: u64,
}

/// A label that goes with an interaction: task and value, a rating or a class.
#[derive(Debug, Clone, PartialEq)]
pub enum Said {
    Satisfaction(f64),
    Intent(&'static str),
}

const SECOND: i64 = Timestamp::MICROS_PER_SECOND;
const HOUR: f64 = 3600.0 * SECOND as f64;
/// 2024-01-01.
const START: i64 = 1_704_067_200 * SECOND;
/// Customers join over this many hours, and their episodes are spread over about twice as many.
const JOINING: f64 = 365.0 * 24.0;
/// Interactions of an average episode.
const PER_EPISODE: f64 = 2.3;

struct Person {
    rng: SmallRng,
    /// Episodes an hour.
    rate: f64,
    /// Probability of leaving after a purchase.
    leaves: f64,
    /// From 0 (furious) to 1 (delighted).
    mood: f64,
    spends: f64,
    chinese: bool,
    episodes: u32,
    next: Next,
    intent: usize,
    /// Number of the interaction that a survey is about.
    about: u64,
}

#[derive(Clone, Copy, PartialEq)]
enum Next {
    Episode,
    /// Turn of a chat, from 1 on.
    Turn(u8),
    TicketClosed,
    Survey,
}

/// Calls `each` for every interaction, in time order, with its number from 0 on and its labels. The same settings give the same interactions.
///
/// # Errors
/// Whatever `each` returns.
pub fn simulate<E>(settings: Settings, mut each: impl FnMut(u64, Interaction, &[Said]) -> Result<(), E>) -> Result<(), E> {
    let mut seeds = SmallRng::seed_from_u64(settings.seed);
    // Half as much again as is needed, so that most customers are not done at the end.
    let episodes = (1.5 * settings.interactions as f64 / f64::from(settings.customers.max(1)) / PER_EPISODE).max(1.0);
    let mut people: Vec<Person> = (0..settings.customers).map(|_| Person::new(seeds.random(), episodes)).collect();
    let mut due: BinaryHeap<Reverse<(i64, u32)>> = BinaryHeap::with_capacity(people.len());
    for (number, person) in people.iter_mut().enumerate() {
        due.push(Reverse((START + (person.rng.random::<f64>() * JOINING * HOUR) as i64, number as u32)));
    }
    let (mut last, mut returning) = (START, 0);
    for number in 0..settings.interactions {
        let Some(Reverse((at, who))) = due.pop().or_else(|| {
            // Everyone has left: they come back one by one, so that there are as many interactions as were asked for.
            let who = (!people.is_empty()).then_some(returning % people.len().max(1) as u32)?;
            returning += 1;
            Some(Reverse((last + (24.0 * HOUR) as i64, who)))
        }) else {
            return Ok(());
        };
        last = at;
        let mut labels = Vec::new();
        let person = &mut people[who as usize];
        let (interaction, next) = person.act(number, who, at, &mut labels);
        each(number, interaction, &labels)?;
        due.extend(next.map(|at| Reverse((at, who))));
    }
    Ok(())
}

fn exponential(rng: &mut SmallRng) -> f64 {
    -(1.0 - rng.random::<f64>()).ln()
}

fn pick<'a, T: ?Sized>(rng: &mut SmallRng, from: &[&'a T]) -> &'a T {
    from[rng.random_range(0..from.len())]
}

impl Person {
    fn new(seed: u64, episodes: f64) -> Self {
        let mut rng = SmallRng::seed_from_u64(seed);
        // Gamma of shape 2, and Beta(1, b): their sums and inverse are simple.
        let rate = episodes / (2.0 * JOINING) * (exponential(&mut rng) + exponential(&mut rng)) / 2.0;
        let leaves = 1.0 - rng.random::<f64>().powf(1.0 / (2.0 * episodes));
        let (mood, spends) = (0.25 + 0.6 * rng.random::<f64>(), (3.0 + rng.random::<f64>()).exp());
        let chinese = rng.random_bool(0.25);
        Self { rng, rate, leaves, mood, spends, chinese, episodes: 0, next: Next::Episode, intent: 0, about: 0 }
    }

    /// One interaction, and when the next is; `None` where the customer has left.
    fn act(&mut self, number: u64, who: u32, at: i64, labels: &mut Vec<Said>) -> (Interaction, Option<i64>) {
        let mut i = blank(number, who, at);
        i.language = Some(if self.chinese { "zh" } else { "en" }.into());
        let mut left = false;
        self.next = match self.next {
            Next::Episode => {
                self.episodes += 1;
                self.begin(&mut i, &mut left, labels)
            }
            Next::Turn(turn) => self.turn(turn, number, &mut i, labels),
            Next::TicketClosed => {
                i.kind = "ticket_closed".into();
                i.actor = Actor::Agent;
                self.conversation(&mut i);
                self.after_help()
            }
            Next::Survey => {
                i.kind = "survey".into();
                i.rating = Some(self.rating());
                i.about = Some(format!("i{}", self.about).into());
                Next::Episode
            }
        };
        let hours = match self.next {
            Next::Episode if left => return (i, None),
            Next::Episode => exponential(&mut self.rng) / self.rate,
            Next::Turn(_) => 0.01 + 0.05 * self.rng.random::<f64>(),
            Next::TicketClosed => 30.0 * self.rng.random::<f64>(),
            Next::Survey => self.rng.random::<f64>(),
        };
        // A second at least, and a century at most.
        (i, Some(at + ((hours * HOUR) as i64).clamp(SECOND, 876_000 * 3600 * SECOND)).filter(|at| *at < 4_102_444_800 * SECOND))
    }

    fn begin(&mut self, i: &mut Interaction, left: &mut bool, labels: &mut Vec<Said>) -> Next {
        let category = self.rng.random_range(0..CATEGORIES.len());
        match self.rng.random::<f64>() {
            u if u < 0.55 => {
                i.kind = "purchase".into();
                i.channel = Some(if self.rng.random_bool(0.7) { "web" } else { "store" }.into());
                i.category = Some(CATEGORIES[category].into());
                i.item = Some(format!("{}-{}", CATEGORIES[category], self.rng.random_range(0..50)).into());
                let quantity = 1.0 + (exponential(&mut self.rng) * 0.8).floor();
                i.amount = Some((self.spends * quantity * (0.5 + self.rng.random::<f64>()) * 100.0).round() / 100.0);
                i.quantity = Some(quantity);
                i.currency = Some("EUR".into());
                i.attributes = BTreeMap::new();
                *left = self.rng.random::<f64>() < (self.leaves * (1.75 - 1.5 * self.mood)).clamp(0.0, 1.0);
                Next::Episode
            }
            u if u < 0.85 => {
                i.kind = "message".into();
                i.channel = Some("chat".into());
                self.conversation(i);
                self.intent = self.rng.random_range(0..INTENTS.len());
                i.text = Some(self.fill(INTENTS[self.intent].1[usize::from(self.chinese)]));
                labels.push(Said::Intent(INTENTS[self.intent].0));
                Next::Turn(1)
            }
            _ => {
                i.kind = "ticket_opened".into();
                i.channel = Some("email".into());
                self.conversation(i);
                self.intent = self.rng.random_range(0..INTENTS.len());
                i.text = Some(self.fill(INTENTS[self.intent].1[usize::from(self.chinese)]));
                self.about = number_of(&i.id);
                Next::TicketClosed
            }
        }
    }

    /// Agent and customer by turns; the customer ends it.
    fn turn(&mut self, turn: u8, number: u64, i: &mut Interaction, labels: &mut Vec<Said>) -> Next {
        i.kind = "message".into();
        i.channel = Some("chat".into());
        self.conversation(i);
        if turn % 2 == 1 {
            i.actor = Actor::Agent;
            let said = pick(&mut self.rng, &AGENT);
            i.text = Some(self.fill(said[usize::from(self.chinese)]));
            return Next::Turn(turn + 1);
        }
        self.mood = (self.mood + 0.35 * (self.rng.random::<f64>() - 0.5)).clamp(0.0, 1.0);
        let said = pick(&mut self.rng, &MOODS[((self.mood * 3.0) as usize).min(2)]);
        i.text = Some(self.fill(said[usize::from(self.chinese)]));
        if turn < 6 && self.rng.random_bool(0.35) {
            return Next::Turn(turn + 1);
        }
        if self.rng.random_bool(0.5) {
            labels.push(Said::Satisfaction(self.rating()));
        }
        self.about = number;
        self.after_help()
    }

    fn after_help(&mut self) -> Next {
        if self.rng.random_bool(0.3) { Next::Survey } else { Next::Episode }
    }

    fn conversation(&self, i: &mut Interaction) {
        i.conversation_id = Some(format!("{}-{}", i.customer_id, self.episodes).into());
    }

    fn rating(&mut self) -> f64 {
        (1.0 + 4.0 * (self.mood + 0.3 * (self.rng.random::<f64>() - 0.5))).round().clamp(1.0, 5.0)
    }

    /// `#` becomes the number of an order.
    fn fill(&mut self, text: &str) -> Box<str> {
        text.replace('#', &self.rng.random_range(1_000..1_000_000).to_string()).into()
    }
}

fn number_of(id: &str) -> u64 {
    id[1..].parse().unwrap_or(0)
}

fn blank(number: u64, who: u32, at: i64) -> Interaction {
    Interaction {
        id: format!("i{number}").into(),
        customer_id: format!("c{who}").into(),
        occurred_at: Timestamp(at - at.rem_euclid(SECOND / 1000)),
        kind: "".into(),
        actor: Actor::Customer,
        conversation_id: None,
        channel: None,
        language: None,
        item: None,
        category: None,
        text: None,
        amount: None,
        quantity: None,
        currency: None,
        rating: None,
        about: None,
        attributes: BTreeMap::new(),
    }
}

static CATEGORIES: [&str; 6] = ["books", "clothes", "electronics", "garden", "kitchen", "toys"];

/// What customers write first: intent, then English and Chinese.
static INTENTS: [(&str, [&str; 2]); 5] = [
    ("delivery", ["Hello, where is my order #? It should have been here last week.", "你好，我的订单#到哪里了？上周就该到了。"]),
    ("refund", ["I want my money back for order #, the product came broken.", "订单#的商品是坏的，我要退款。"]),
    ("product_question", ["Does the model from order # also work with the old charger?", "请问订单#这个型号可以用旧的充电器吗？"]),
    ("invoice", ["Could you send me the invoice for order # please?", "麻烦把订单#的发票发给我。"]),
    ("change_address", ["I moved house, please send order # to my new address.", "我搬家了，请把订单#寄到新地址。"]),
];

static AGENT: [&[&str; 2]; 4] = [
    &["Thank you for your message, I am looking at order # now.", "感谢您的留言，我正在查询订单#。"],
    &["I am sorry about that. Could you tell me your postcode?", "非常抱歉，请问您的邮编是多少？"],
    &["Your parcel left our warehouse yesterday.", "您的包裹昨天已经从仓库发出。"],
    &["I have passed this on to my colleagues, you will hear from us.", "我已经转给同事处理，会尽快回复您。"],
];

/// What customers answer: unhappy, neither, happy.
static MOODS: [[&[&str; 2]; 4]; 3] = [
    [
        &["This is the third time I ask! Nobody helps me, I am very disappointed.", "我已经问了三次了！没有人帮我，太失望了。"],
        &["That is not an answer. Terrible service, never again.", "这不是回答。服务太差了，再也不来了。"],
        &["I have been waiting for weeks and order # is still not here!", "我等了几个星期，订单#还没到！"],
        &["Useless. I will cancel everything.", "没用，我要全部取消。"],
    ],
    [
        &["Okay, I will wait until tomorrow.", "好吧，我等到明天。"],
        &["Is there anything else you need from me?", "还需要我提供什么吗？"],
        &["The number is #, as I said.", "号码是#，我说过了。"],
        &["I see. Please keep me informed.", "知道了，有消息请告诉我。"],
    ],
    [
        &["Great, thank you so much for the quick help!", "太好了，谢谢你这么快帮我解决！"],
        &["Perfect, that works. You are very kind.", "完美，可以了，你人真好。"],
        &["Wonderful, the parcel has just arrived.", "太棒了，包裹刚刚到了。"],
        &["Thanks, I am happy with this.", "谢谢，我很满意。"],
    ],
];

#[cfg(test)]
mod tests {
    use super::*;
    use crate::interaction::{DecodeOptions, decode};

    fn run(settings: Settings) -> Vec<(Interaction, Vec<Said>)> {
        let mut all = Vec::new();
        simulate::<()>(settings, |n, interaction, said| {
            assert_eq!(n as usize, all.len());
            all.push((interaction, said.to_vec()));
            Ok(())
        })
        .expect("no error");
        all
    }

    #[test]
    fn the_same_seed_gives_the_same_interactions_in_time_order_and_all_are_valid() {
        let settings = Settings { interactions: 5_000, customers: 300, seed: 1 };
        let all = run(settings);
        assert_eq!(all.len(), 5_000);
        assert!(all == run(settings) && all != run(Settings { seed: 2, ..settings }));
        assert!(all.is_sorted_by_key(|(i, _)| i.occurred_at));
        let mut kinds: BTreeMap<Box<str>, usize> = BTreeMap::new();
        for (i, _) in &all {
            let json = serde_json::to_vec(i).expect("JSON");
            assert_eq!(&decode(&json, DecodeOptions::default()).expect("valid").interaction, i);
            *kinds.entry(i.kind.clone()).or_default() += 1;
        }
        assert_eq!(kinds.keys().map(|k| &**k).collect::<Vec<_>>(), ["message", "purchase", "survey", "ticket_closed", "ticket_opened"]);
        assert!(all.iter().any(|(i, _)| i.text.as_deref().is_some_and(|t| t.contains("订单"))));
        let said = |of: fn(&Said) -> bool| all.iter().flat_map(|(_, s)| s).filter(|s| of(s)).count();
        assert!(said(|s| matches!(s, Said::Intent(_))) > 300 && said(|s| matches!(s, Said::Satisfaction(_))) > 100);
    }

    #[test]
    fn customers_leave_and_more_so_the_unhappy() {
        let all = run(Settings { interactions: 60_000, customers: 3_000, seed: 3 });
        let end = all[all.len() - 1].0.occurred_at;
        // Last purchase and ratings of each customer.
        let mut of: BTreeMap<&str, (Timestamp, f64, f64)> = BTreeMap::new();
        for (i, _) in &all {
            let known = of.entry(&i.customer_id).or_default();
            known.0 = i.occurred_at;
            if let Some(rating) = i.rating {
                known.1 += rating;
                known.2 += 1.0;
            }
        }
        let away = |low: f64, high: f64| {
            let among: Vec<_> = of.values().filter(|(_, _, n)| *n > 0.0).filter(|(_, sum, n)| (low..high).contains(&(sum / n))).collect();
            among.iter().filter(|(last, ..)| end.days_since(*last) > 180.0).count() as f64 / among.len() as f64
        };
        let (unhappy, happy) = (away(0.0, 2.5), away(4.0, 6.0));
        assert!(unhappy > happy + 0.02 && happy < 0.7, "silent for half a year: {unhappy} of the unhappy, {happy} of the happy");
    }

    #[test]
    fn there_are_as_many_as_asked_for_even_if_all_have_left() {
        assert_eq!(run(Settings { interactions: 400, customers: 1, seed: 1 }).len(), 400);
        assert!(run(Settings { interactions: 10, customers: 0, seed: 1 }).is_empty());
    }
}
