//! The CDNOW sample (Fader and Hardie): CD purchases of 2,357 customers, 1997-01 to 1998-06.
//!
//! Lines of five columns: master id, sample id, date `yyyymmdd`, number of CDs, dollars. The lines of one
//! customer and day are one purchase, as published evaluations of these data count them: numbers of CDs and dollars are summed.

use std::path::Path;

use chrono::NaiveDate;

use super::read::{Lines, open, some_rows};
use super::{Place, Row, Sink};
use crate::interaction::Timestamp;

/// Reads the file `CDNOW_sample.txt`.
///
/// # Errors
/// A file that cannot be read or holds no purchase of this form; output that cannot be written.
pub fn import(path: &Path, sink: &mut Sink) -> anyhow::Result<()> {
    let mut lines = Lines::new(open(path)?);
    let before = sink.written();
    let mut open: Option<Purchase> = None;
    let mut purchases = 0;
    while let Some((line, text)) = lines.next()? {
        let place = Place { file: path, line };
        let parsed = match text {
            Ok(text) if text.trim().is_empty() => continue,
            Ok(text) => parse(text).ok_or("the line is not master id, sample id, yyyymmdd, CDs, dollars"),
            Err(why) => Err(why),
        };
        let (master, at, cds, dollars) = match parsed {
            Ok(parsed) => parsed,
            Err(why) => {
                sink.bad(place, why);
                continue;
            }
        };
        // A customer's purchases stand together, in order of time.
        match &mut open {
            Some(p) if p.master == master && p.at == at => (p.cds, p.dollars) = (p.cds + cds, p.dollars + dollars),
            _ => {
                let same = open.as_ref().is_some_and(|p| p.master == master);
                if let Some(done) = open.take() {
                    done.write(path, sink)?;
                }
                purchases = if same { purchases + 1 } else { 1 };
                open = Some(Purchase { master: master.to_owned(), number: purchases, at, cds, dollars, line });
            }
        }
    }
    if let Some(done) = open {
        done.write(path, sink)?;
    }
    some_rows(path, sink.written() - before, "CDNOW", "master id, sample id, yyyymmdd, CDs, dollars")
}

/// What a customer bought on one day.
struct Purchase {
    master: String,
    /// Of the customer's purchases, from 1 on.
    number: usize,
    at: Timestamp,
    cds: f64,
    dollars: f64,
    /// The first of its lines.
    line: u64,
}

impl Purchase {
    fn write(self, path: &Path, sink: &mut Sink) -> anyhow::Result<()> {
        let customer = format!("cdnow-{}", self.master);
        let id = format!("{customer}-{:03}", self.number);
        // Sums of cents are no exact binary fractions.
        let dollars = (100.0 * self.dollars).round() / 100.0;
        let row =
            Row { amount: Some(dollars), quantity: Some(self.cds), currency: Some("USD"), ..Row::new(&id, &customer, self.at, "purchase") };
        sink.interaction(&row, Place { file: path, line: self.line })?;
        Ok(())
    }
}

fn parse(line: &str) -> Option<(&str, Timestamp, f64, f64)> {
    let mut fields = line.split_whitespace();
    let (master, _, date, cds, dollars) = (fields.next()?, fields.next()?, fields.next()?, fields.next()?, fields.next()?);
    let date = NaiveDate::parse_from_str(date, "%Y%m%d").ok()?.and_hms_opt(0, 0, 0)?;
    fields.next().is_none().then_some((master, Timestamp(date.and_utc().timestamp_micros()), cds.parse().ok()?, dollars.parse().ok()?))
}
