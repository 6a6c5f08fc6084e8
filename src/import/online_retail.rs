//! Online Retail II (Chen, UCI, CC BY 4.0): every invoice line of a British gift shop from 2009-12 to 2011-12.
//!
//! One line is one interaction: a `purchase`, or a `return` with a positive amount where the invoice is a cancellation (number `C…`) or the
//! quantity is negative. Lines without a customer belong to no sequence and are left out. The two years overlap from 2010-12-01 to 09: those
//! days are taken from year 2. Times are the shop's clock, read as UTC.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use anyhow::Context;
use chrono::NaiveDateTime;

use super::read::{Table, some_rows, table};
use super::retail_category::category;
use super::{Place, Row, Sink};
use crate::interaction::Timestamp;

/// Reads the files in order of their times, however they are named in `paths`.
///
/// # Errors
/// A file that cannot be read or is no file of this set; output that cannot be written.
pub fn import(paths: &[PathBuf], sink: &mut Sink) -> anyhow::Result<()> {
    for path in in_order(paths)? {
        let before = sink.written();
        read(&path, sink, write)?;
        some_rows(&path, sink.written() - before, "Online Retail II", "an invoice line of a known customer")?;
    }
    Ok(())
}

/// The files with year 1 first, so that every customer's lines come out in order of time.
///
/// # Errors
/// A file that cannot be read or is no file of this set.
pub fn in_order(paths: &[PathBuf]) -> anyhow::Result<Vec<PathBuf>> {
    let mut dated = Vec::new();
    for path in paths {
        let mut rows = rows(path)?.0;
        let mut first = csv::ByteRecord::new();
        rows.read_byte_record(&mut first).with_context(|| format!("cannot read {}", path.display()))?;
        dated.push((first.get(4).unwrap_or_default().to_vec(), path.clone()));
    }
    dated.sort();
    Ok(dated.into_iter().map(|(_, path)| path).collect())
}

/// One invoice line of a known customer.
pub struct Line<'a> {
    pub id: &'a str,
    pub customer_id: &'a str,
    pub occurred_at: Timestamp,
    pub kind: &'static str,
    pub invoice: &'a str,
    pub stock_code: &'a str,
    pub description: &'a str,
    /// Pounds, not negative.
    pub amount: f64,
    pub quantity: f64,
    pub country: &'a str,
}

/// The table, and whether it is year 1 (which alone calls its first column `Invoice`).
fn rows(path: &Path) -> anyhow::Result<(Table, bool)> {
    let columns: [&[&str]; 8] = [
        &["invoice", "invoiceno"],
        &["stockcode"],
        &["description"],
        &["quantity"],
        &["invoicedate"],
        &["price", "unitprice"],
        &["customerid"],
        &["country"],
    ];
    let mut rows = table(path, b',', "Online Retail II", &columns)?;
    let year_1 = rows.byte_headers()?.get(0).is_some_and(|name| name == b"Invoice");
    Ok((rows, year_1))
}

/// Calls `each` with every sound line of a known customer in file order; the others are counted in `sink`.
///
/// # Errors
/// A file that cannot be read or is no file of this set; what `each` returns.
pub fn read(
    path: &Path,
    sink: &mut Sink,
    mut each: impl FnMut(&Line<'_>, Place<'_>, &mut Sink) -> anyhow::Result<()>,
) -> anyhow::Result<()> {
    let (mut rows, year_1) = rows(path)?;
    let mut row = csv::StringRecord::new();
    let mut lines_of_invoice: HashMap<String, u32> = HashMap::new();
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
        let [invoice, stock_code, description, quantity, date, price, customer, country] = fields[..] else {
            sink.bad(place, format_args!("{} columns, there should be 8", row.len()));
            continue;
        };
        // Year 2 says 0 where year 1 says nothing.
        if customer.is_empty() || customer.trim_end_matches(".0") == "0" {
            sink.leave_out("without a customer");
            continue;
        }
        if year_1 && date >= "2010-12-01" {
            sink.leave_out("of 2010-12-01 to 09 in year 1, which year 2 holds too");
            continue;
        }
        let customer = customer.strip_suffix(".0").unwrap_or(customer);
        let (Some(at), Ok(quantity), Ok(price)) = (shop_time(date), quantity.parse::<f64>(), price.parse::<f64>()) else {
            sink.bad(place, format_args!("date {date:?}, quantity {quantity:?} or price {price:?} is none"));
            continue;
        };
        let line = lines_of_invoice.entry(invoice.to_owned()).or_default();
        *line += 1;
        each(
            &Line {
                id: &format!("retail-{invoice}-{line:03}"),
                customer_id: &format!("retail-{customer}"),
                occurred_at: at,
                kind: if invoice.starts_with(['C', 'c']) || quantity < 0.0 { "return" } else { "purchase" },
                invoice,
                stock_code,
                description,
                amount: pence((quantity * price).abs()),
                quantity: quantity.abs(),
                country,
            },
            place,
            sink,
        )?;
    }
}

/// Writes one invoice line as an interaction.
///
/// # Errors
/// Output that cannot be written.
pub fn write(line: &Line<'_>, place: Place<'_>, sink: &mut Sink) -> anyhow::Result<()> {
    let row = Row {
        item: Some(line.stock_code),
        category: Some(category(line.stock_code, line.description)),
        amount: Some(line.amount),
        quantity: Some(line.quantity),
        currency: Some("GBP"),
        attributes: &[("country", line.country), ("description", line.description), ("invoice", line.invoice)],
        ..Row::new(line.id, line.customer_id, line.occurred_at, line.kind)
    };
    sink.interaction(&row, place).map(drop)
}

fn shop_time(date: &str) -> Option<Timestamp> {
    let date = NaiveDateTime::parse_from_str(date, "%Y-%m-%d %H:%M:%S").ok()?;
    Some(Timestamp(date.and_utc().timestamp_micros()))
}

/// A product of a quantity and a price has no fractions of a penny; floating-point arithmetic does. Prices have up to three decimals.
fn pence(amount: f64) -> f64 {
    (amount * 1000.0).round() / 1000.0
}
