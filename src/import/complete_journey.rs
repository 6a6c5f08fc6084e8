//! The Complete Journey (dunnhumby, 2017): what 2,469 households bought at an American grocer within a year, and the campaigns sent to them.
//!
//! One `purchase` per basket and product category, the largest amount first, so that the next category is what the next basket is mainly for. One
//! `campaign` per household and campaign at its start. The files are told apart by their columns; those of campaigns may be absent, and
//! coupons, redemptions and demographics are passed over. Times are the shops' clock, read as UTC.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use chrono::{NaiveDate, NaiveDateTime};

use super::read::{Table, some_rows, table};
use super::{Place, Row, Sink};
use crate::interaction::Timestamp;

const SET: &str = "The Complete Journey";

/// The files of the set.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Part {
    Transactions,
    Products,
    Campaigns,
    Descriptions,
    Coupons,
    Redemptions,
    Demographics,
}

impl Part {
    const ALL: [Self; 7] =
        [Self::Transactions, Self::Products, Self::Campaigns, Self::Descriptions, Self::Coupons, Self::Redemptions, Self::Demographics];

    fn columns(self) -> &'static [&'static [&'static str]] {
        match self {
            Self::Transactions => &[&["household_id"], &["store_id"], &["basket_id"], &["product_id"], &["quantity"], &["sales_value"]],
            Self::Products => &[&["product_id"], &["manufacturer_id"], &["department"], &["brand"], &["product_category"]],
            Self::Campaigns => &[&["campaign_id"], &["household_id"]],
            Self::Descriptions => &[&["campaign_id"], &["campaign_type"], &["start_date"]],
            Self::Coupons => &[&["coupon_upc"], &["product_id"]],
            Self::Redemptions => &[&["household_id"], &["coupon_upc"]],
            Self::Demographics => &[&["household_id"], &["age"]],
        }
    }

    /// # Errors
    /// A file that cannot be read or is no file of this set.
    fn of(path: &Path) -> anyhow::Result<Self> {
        let part = Self::ALL.into_iter().find(|part| table(path, b',', SET, part.columns()).is_ok());
        part.map_or_else(|| table(path, b',', SET, Self::Transactions.columns()).map(|_| Self::Transactions), Ok)
    }
}

/// Reads the files in whichever order they are named.
///
/// # Errors
/// A file that cannot be read or is no file of this set, or a set without transactions or products; output that cannot be written.
pub fn import(paths: &[PathBuf], sink: &mut Sink) -> anyhow::Result<()> {
    let mut files = BTreeMap::new();
    for path in paths {
        let part = Part::of(path)?;
        if let Some(other) = files.insert(part, path.as_path()) {
            bail!("{} and {} are the same part of {SET}", other.display(), path.display());
        }
    }
    let (Some(transactions), Some(products)) = (files.get(&Part::Transactions), files.get(&Part::Products)) else {
        bail!("transactions and products are both needed: name transactions.csv and products.csv of {SET}");
    };
    let categories = categories(products, sink)?;
    let campaigns = match (files.get(&Part::Campaigns), files.get(&Part::Descriptions)) {
        (Some(sent), Some(described)) => campaigns(sent, described, sink)?,
        (None, None) => VecDeque::new(),
        _ => bail!("campaigns are in two files: name both campaigns.csv and campaign_descriptions.csv of {SET}, or neither"),
    };
    let before = sink.written();
    read(transactions, &categories, campaigns, sink)?;
    some_rows(transactions, sink.written() - before, SET, "a line of a basket")
}

/// Calls `each` with every sound row's fields, which are at least `width`.
fn rows(
    path: &Path,
    part: Part,
    width: usize,
    sink: &mut Sink,
    mut each: impl FnMut(&[&str], Place<'_>, &mut Sink) -> anyhow::Result<()>,
) -> anyhow::Result<()> {
    let mut rows: Table = table(path, b',', SET, part.columns())?;
    let mut row = csv::StringRecord::new();
    loop {
        match rows.read_record(&mut row) {
            Ok(true) => {}
            Ok(false) => return Ok(()),
            Err(e) if e.is_io_error() => return Err(e).with_context(|| format!("cannot read {}", path.display())),
            Err(e) => {
                sink.bad(Place { file: path, line: e.position().map_or(0, csv::Position::line) }, &e);
                continue;
            }
        }
        let place = Place { file: path, line: row.position().map_or(0, csv::Position::line) };
        let fields: Vec<&str> = row.iter().map(str::trim).collect();
        if fields.len() < width {
            sink.bad(place, format_args!("{} columns, there should be {width} or more", fields.len()));
            continue;
        }
        each(&fields, place, sink)?;
    }
}

/// The category of each product; its department where it has none.
fn categories(path: &Path, sink: &mut Sink) -> anyhow::Result<HashMap<Box<str>, Box<str>>> {
    let mut categories = HashMap::new();
    rows(path, Part::Products, 5, sink, |fields, _, _| {
        let category = if fields[4].is_empty() { fields[2] } else { fields[4] };
        categories.insert(fields[0].into(), category.into());
        Ok(())
    })?;
    Ok(categories)
}

/// A campaign that was sent to a household.
struct Campaign {
    at: Timestamp,
    id: String,
    household: String,
    kind: Box<str>,
    line: u64,
    file: PathBuf,
}

/// In order of their starts.
fn campaigns(sent: &Path, described: &Path, sink: &mut Sink) -> anyhow::Result<VecDeque<Campaign>> {
    let mut starts: HashMap<String, (Timestamp, Box<str>)> = HashMap::new();
    rows(described, Part::Descriptions, 3, sink, |fields, place, sink| {
        match NaiveDate::parse_from_str(fields[2], "%Y-%m-%d").ok().and_then(|d| d.and_hms_opt(0, 0, 0)) {
            Some(start) => drop(starts.insert(fields[0].into(), (Timestamp(start.and_utc().timestamp_micros()), fields[1].into()))),
            None => sink.bad(place, format_args!("start_date {:?} is no date", fields[2])),
        }
        Ok(())
    })?;
    let mut campaigns = Vec::new();
    rows(sent, Part::Campaigns, 2, sink, |fields, place, sink| {
        match starts.get(fields[0]) {
            Some((at, kind)) => campaigns.push(Campaign {
                at: *at,
                id: fields[0].into(),
                household: fields[1].into(),
                kind: kind.clone(),
                line: place.line,
                file: place.file.to_owned(),
            }),
            None => sink.bad(place, format_args!("campaign {:?} is not described", fields[0])),
        }
        Ok(())
    })?;
    campaigns.sort_by_key(|c| c.at);
    Ok(campaigns.into())
}

/// What a basket holds of one category.
#[derive(Default)]
struct Bought {
    amount: f64,
    quantity: f64,
}

/// A basket while its lines come in; they stand together.
struct Basket {
    id: String,
    household: String,
    store: String,
    at: Timestamp,
    line: u64,
    /// By category, `None` where the product is not known.
    bought: BTreeMap<Option<Box<str>>, Bought>,
}

fn read(path: &Path, categories: &HashMap<Box<str>, Box<str>>, mut campaigns: VecDeque<Campaign>, sink: &mut Sink) -> anyhow::Result<()> {
    let mut basket: Option<Basket> = None;
    rows(path, Part::Transactions, 11, sink, |fields, place, sink| {
        let (household, store, id, product, quantity, amount, date) =
            (fields[0], fields[1], fields[2], fields[3], fields[4], fields[5], fields[10]);
        let at = NaiveDateTime::parse_from_str(date, "%Y-%m-%d %H:%M:%S").ok();
        let (Some(at), Ok(quantity), Ok(amount)) = (at, quantity.parse::<f64>(), amount.parse::<f64>()) else {
            sink.bad(place, format_args!("quantity {quantity:?}, sales_value {amount:?} or transaction_timestamp {date:?} is none"));
            return Ok(());
        };
        let at = Timestamp(at.and_utc().timestamp_micros());
        if basket.as_ref().is_none_or(|b| b.id != id || b.household != household) {
            if let Some(whole) = basket.take() {
                send(&mut campaigns, Some(whole.at), sink)?;
                whole.write(path, sink)?;
            }
            let (household, store, line) = (household.into(), store.into(), place.line);
            basket = Some(Basket { id: id.into(), household, store, at, line, bought: BTreeMap::new() });
        }
        if let Some(basket) = &mut basket {
            let bought = basket.bought.entry(categories.get(product).filter(|c| !c.is_empty()).cloned()).or_default();
            bought.amount += amount;
            bought.quantity += quantity;
        }
        Ok(())
    })?;
    if let Some(whole) = basket {
        send(&mut campaigns, Some(whole.at), sink)?;
        whole.write(path, sink)?;
    }
    send(&mut campaigns, None, sink)
}

/// Writes the campaigns that start no later than `until`; all where there is none.
fn send(campaigns: &mut VecDeque<Campaign>, until: Option<Timestamp>, sink: &mut Sink) -> anyhow::Result<()> {
    while let Some(campaign) = campaigns.pop_front_if(|c| until.is_none_or(|t| c.at <= t)) {
        let Campaign { at, id, household, kind, line, file } = campaign;
        let (interaction, customer) = (format!("journey-campaign-{id}-{household}"), format!("journey-{household}"));
        let attributes = [("campaign", &*id), ("type", &*kind)];
        let row = Row { actor: "system", attributes: &attributes, ..Row::new(&interaction, &customer, at, "campaign") };
        sink.interaction(&row, Place { file: &file, line })?;
    }
    Ok(())
}

impl Basket {
    fn write(self, path: &Path, sink: &mut Sink) -> anyhow::Result<()> {
        let Self { id, household, store, at, line, bought } = self;
        let customer = format!("journey-{household}");
        let mut bought: Vec<(Option<Box<str>>, Bought)> = bought.into_iter().collect();
        // Stable, so that of equal amounts the first by name comes first.
        bought.sort_by(|a, b| b.1.amount.total_cmp(&a.1.amount));
        for (number, (category, Bought { amount, quantity })) in (1..).zip(bought) {
            let purchase = format!("journey-{id}-{number:03}");
            let row = Row {
                category: category.as_deref(),
                // Cents: sums of decimals are off by a little.
                amount: Some((amount * 100.0).round() / 100.0),
                quantity: Some(quantity),
                currency: Some("USD"),
                attributes: &[("basket", &id), ("store", &store)],
                ..Row::new(&purchase, &customer, at, "purchase")
            };
            sink.interaction(&row, Place { file: path, line })?;
        }
        Ok(())
    }
}
