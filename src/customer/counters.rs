//! Running counts of one customer that no model bundle owns.

use super::item::Item;
use super::words;
use crate::interaction::{Actor, Timestamp};

/// Sums over interactions, in order of arrival. Money is in the customer's own currency, gaps in days.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Counters {
    pub interactions: u32,
    pub customer_interactions: u32,
    pub first: Timestamp,
    pub last: Timestamp,
    pub last_by_customer: Timestamp,
    /// Conversation that the last interaction belonged to (0: none), and the turns in it.
    pub conversation: u32,
    pub turns: u32,
    pub customer_turns: u32,
    pub purchases: u32,
    pub returns: u32,
    pub first_purchase: Timestamp,
    pub last_purchase: Timestamp,
    /// Number, sum and sum of squares of the pauses of a day or more between purchases.
    pub gaps: u32,
    pub gap_days: f32,
    pub gap_days_squared: f32,
    pub last_gap_days: f32,
    pub amount: f32,
    pub quantity: f32,
    pub first_amount: f32,
    pub last_amount: f32,
    /// The customer's own ratings.
    pub ratings: u32,
    pub rating_sum: f32,
    pub last_rating: f32,
    /// Visits: interactions of the customer at least [`VISIT_PAUSE_DAYS`] after the customer's previous one.
    pub visits: u32,
    pub first_visit: Timestamp,
    pub last_visit: Timestamp,
    /// Sum, sum of squares and last of the pauses between visits, in days.
    pub visit_days: f32,
    pub visit_days_squared: f32,
    pub last_visit_days: f32,
    /// Visits, halved every [`HALF_LIVES_DAYS`] days, as of the last visit.
    pub recent_visits: [f32; 3],
    /// Amount of purchases, halved likewise, as of the last purchase.
    pub recent_amount: [f32; 3],
}

/// Half-lives of the decayed sums.
pub const HALF_LIVES_DAYS: [f32; 3] = [30.0, 90.0, 365.0];

/// A customer's pause of this many days starts a new visit.
pub const VISIT_PAUSE_DAYS: f64 = 0.5;

/// Without conversation ids, a pause this long starts a new conversation.
const CONVERSATION_PAUSE_SECONDS: f64 = 12.0 * 3600.0;

impl Counters {
    /// Whether `item` would start a new conversation.
    pub fn starts_conversation(&self, item: &Item) -> bool {
        self.interactions == 0
            || item.conversation != self.conversation
            || (item.conversation == 0 && item.occurred_at.seconds_since(self.last) > CONVERSATION_PAUSE_SECONDS)
    }

    /// Adds one interaction.
    pub fn add(&mut self, item: &Item) {
        if self.starts_conversation(item) {
            self.turns = 0;
            self.customer_turns = 0;
            self.conversation = item.conversation;
        }
        self.first = if self.interactions == 0 { item.occurred_at } else { self.first.min(item.occurred_at) };
        self.last = self.last.max(item.occurred_at);
        self.interactions = self.interactions.saturating_add(1);
        self.turns = self.turns.saturating_add(1);
        if item.actor == Actor::Customer {
            self.add_visit(item);
            self.customer_interactions = self.customer_interactions.saturating_add(1);
            self.customer_turns = self.customer_turns.saturating_add(1);
            self.last_by_customer = self.last_by_customer.max(item.occurred_at);
            if !item.rating.is_nan() {
                self.ratings = self.ratings.saturating_add(1);
                self.rating_sum += item.rating;
                self.last_rating = item.rating;
            }
        }
        if item.kind == words::hash("purchase") {
            self.add_purchase(item);
        } else if item.kind == words::hash("return") {
            self.returns = self.returns.saturating_add(1);
        }
    }

    /// Must come before the customer's interaction is counted.
    fn add_visit(&mut self, item: &Item) {
        if self.customer_interactions == 0 {
            self.first_visit = item.occurred_at;
        } else if item.occurred_at.days_since(self.last_by_customer) < VISIT_PAUSE_DAYS {
            return;
        } else {
            let days = item.occurred_at.days_since(self.last_visit) as f32;
            self.visit_days += days;
            self.visit_days_squared += days * days;
            self.last_visit_days = days;
            decay(&mut self.recent_visits, days);
        }
        self.visits = self.visits.saturating_add(1);
        self.last_visit = item.occurred_at;
        self.recent_visits.iter_mut().for_each(|n| *n += 1.0);
    }

    fn add_purchase(&mut self, item: &Item) {
        let or_zero = |n: f32| if n.is_nan() { 0.0 } else { n };
        if self.purchases == 0 {
            self.first_purchase = item.occurred_at;
            self.first_amount = or_zero(item.amount);
        } else {
            let days = item.occurred_at.days_since(self.last_purchase) as f32;
            if days >= 1.0 {
                self.gaps = self.gaps.saturating_add(1);
                self.gap_days += days;
                self.gap_days_squared += days * days;
                self.last_gap_days = days;
            }
        }
        if self.purchases > 0 {
            decay(&mut self.recent_amount, item.occurred_at.days_since(self.last_purchase) as f32);
        }
        self.recent_amount.iter_mut().for_each(|a| *a += or_zero(item.amount));
        self.purchases = self.purchases.saturating_add(1);
        self.last_purchase = self.last_purchase.max(item.occurred_at);
        self.amount += or_zero(item.amount);
        self.quantity += or_zero(item.quantity);
        self.last_amount = or_zero(item.amount);
    }
}

/// Lets sums of before decay over `days` (none where they are negative).
pub fn decay(sums: &mut [f32; 3], days: f32) {
    for (sum, half_life) in sums.iter_mut().zip(HALF_LIVES_DAYS) {
        *sum *= (-days.max(0.0) / half_life).exp2();
    }
}
