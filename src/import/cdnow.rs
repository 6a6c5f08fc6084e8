//! The CDNOW sample (Fader and Hardie): CD purchases of 2,357 customers, 1997-01 to 1998-06.
//!
//! Lines of five columns: master id, sample id, date `yyyymmdd`, number of CDs, dollars. One line is one purchase.

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
    let (mut customer, mut purchase) = (String::new(), 0);
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
        // A customer's purchases stand together.
        if customer.strip_prefix("cdnow-") != Some(master) {
            (customer, purchase) = (format!("cdnow-{master}"), 0);
        }
        purchase += 1;
        let id = format!("{customer}-{purchase:03}");
        let row = Row { amount: Some(dollars), quantity: Some(cds), currency: Some("USD"), ..Row::new(&id, &customer, at, "purchase") };
        sink.interaction(&row, place)?;
    }
    some_rows(path, sink.written() - before, "CDNOW", "master id, sample id, yyyymmdd, CDs, dollars")
}

fn parse(line: &str) -> Option<(&str, Timestamp, f64, f64)> {
    let mut fields = line.split_whitespace();
    let (master, _, date, cds, dollars) = (fields.next()?, fields.next()?, fields.next()?, fields.next()?, fields.next()?);
    let date = NaiveDate::parse_from_str(date, "%Y%m%d").ok()?.and_hms_opt(0, 0, 0)?;
    fields.next().is_none().then_some((master, Timestamp(date.and_utc().timestamp_micros()), cds.parse().ok()?, dollars.parse().ok()?))
}
