//! Settings by dotted key, whatever their source (file, environment, flag), taken one by one with a check each.
//!
//! Knows sources and types; what keys exist and mean is [`super`]'s.

use std::collections::BTreeMap;
use std::fmt::Display;
use std::path::{Path, PathBuf};
use std::time::Duration;

use toml::Value;

use crate::interaction::parse_duration;

/// Sections whose keys may come from the environment.
const SECTIONS: [&str; 6] = ["log", "model", "worker", "http", "state", "archive"];

/// Where a value was set; part of every message about it.
#[derive(Debug, Clone)]
enum Source {
    File(PathBuf),
    /// Name of the variable.
    Environment(String),
    /// The flag as typed, `--bind`.
    Flag(&'static str),
}

#[derive(Debug)]
struct Setting {
    value: Value,
    source: Source,
}

/// All settings that are set, the later source winning. Taking one removes it, so what is left at the end is unknown.
#[derive(Debug, Default)]
pub(super) struct Settings {
    by_key: BTreeMap<String, Setting>,
    /// Every key that was asked for: the known keys, for suggestions.
    asked: Vec<&'static str>,
}

impl Settings {
    /// Adds the settings of a TOML document.
    pub fn add_file(&mut self, path: &Path, text: &str) -> Result<(), String> {
        let table: toml::Table = text.parse().map_err(|e: toml::de::Error| format!("{}: not valid TOML: {e}", path.display()))?;
        for (section, value) in table {
            match value {
                Value::Table(keys) => {
                    for (key, value) in keys {
                        self.insert(format!("{section}.{key}"), value, Source::File(path.to_owned()));
                    }
                }
                value => self.insert(section, value, Source::File(path.to_owned())),
            }
        }
        Ok(())
    }

    /// Adds `RAPPORT_<SECTION>_<KEY>` variables. An empty one counts as unset; variables of no section are someone else's.
    pub fn add_environment(&mut self, variables: impl IntoIterator<Item = (String, String)>) {
        for (name, text) in variables {
            let Some(rest) = name.strip_prefix("RAPPORT_") else { continue };
            let Some((section, key)) = rest.split_once('_') else { continue };
            let (section, key) = (section.to_ascii_lowercase(), key.to_ascii_lowercase());
            if !SECTIONS.contains(&section.as_str()) || text.is_empty() {
                continue;
            }
            let source = Source::Environment(name);
            // Properties of librdkafka have dots where a variable's name cannot.
            match key.strip_prefix("kafka_") {
                Some(property) if section == "log" => {
                    let property = property.replace('_', ".");
                    let table = self
                        .by_key
                        .entry("log.kafka".into())
                        .or_insert_with(|| Setting { value: Value::Table(toml::Table::new()), source: source.clone() });
                    if let Value::Table(properties) = &mut table.value {
                        properties.insert(property, Value::String(text));
                    }
                }
                _ => self.insert(format!("{section}.{key}"), Value::String(text), source),
            }
        }
    }

    pub fn add_flag(&mut self, flag: &'static str, key: &str, value: Option<String>) {
        if let Some(value) = value {
            self.insert(key.into(), Value::String(value), Source::Flag(flag));
        }
    }

    fn insert(&mut self, key: String, value: Value, source: Source) {
        self.by_key.insert(key, Setting { value, source });
    }

    fn take(&mut self, key: &'static str) -> Option<Setting> {
        self.asked.push(key);
        self.by_key.remove(key)
    }

    /// A string that is not empty.
    pub fn string(&mut self, key: &'static str) -> Result<Option<String>, String> {
        match self.take(key) {
            None => Ok(None),
            Some(Setting { value: Value::String(s), .. }) if !s.is_empty() => Ok(Some(s)),
            Some(s) => Err(s.wrong(key, "a string that is not empty")),
        }
    }

    pub fn path(&mut self, key: &'static str) -> Result<Option<PathBuf>, String> {
        Ok(self.string(key)?.map(PathBuf::from))
    }

    /// A whole number within `range`; a string of digits counts where it came from a variable or flag.
    pub fn number(&mut self, key: &'static str, range: std::ops::RangeInclusive<usize>) -> Result<Option<usize>, String> {
        let Some(setting) = self.take(key) else { return Ok(None) };
        let number = match (&setting.value, &setting.source) {
            (Value::Integer(n), _) => usize::try_from(*n).ok(),
            (Value::String(s), Source::Environment(_) | Source::Flag(_)) => s.trim().parse().ok(),
            _ => None,
        };
        match number.filter(|n| range.contains(n)) {
            Some(n) => Ok(Some(n)),
            None => Err(setting.wrong(key, format_args!("a whole number from {} to {}", range.start(), range.end()))),
        }
    }

    /// A span of time: a whole number and one of `s`, `m`, `h`, `d`.
    pub fn duration(&mut self, key: &'static str) -> Result<Option<Duration>, String> {
        let Some(setting) = self.take(key) else { return Ok(None) };
        match setting.value.as_str().and_then(parse_duration) {
            Some(d) => Ok(Some(d)),
            None => Err(setting.wrong(key, "a time such as \"90s\", \"15m\", \"12h\" or \"7d\", up to \"36500d\"")),
        }
    }

    /// A string that `parse` turns into what is wanted; `right` says what that is.
    pub fn parsed<T>(&mut self, key: &'static str, right: &str, parse: impl FnOnce(&str) -> Option<T>) -> Result<Option<T>, String> {
        let Some(setting) = self.take(key) else { return Ok(None) };
        match setting.value.as_str().and_then(parse) {
            Some(v) => Ok(Some(v)),
            None => Err(setting.wrong(key, right)),
        }
    }

    /// A table of strings, numbers and booleans, as strings.
    pub fn properties(&mut self, key: &'static str) -> Result<BTreeMap<String, String>, String> {
        let Some(setting) = self.take(key) else { return Ok(BTreeMap::new()) };
        let mut properties = BTreeMap::new();
        if let Value::Table(table) = &setting.value {
            flatten("", table, &mut properties).map_err(|name| {
                format!("{}: {key}.{name} must be a string, number or boolean, as a property of librdkafka is", setting.origin())
            })?;
            return Ok(properties);
        }
        Err(setting.wrong(key, "a table of librdkafka properties, [log.kafka]"))
    }

    /// An array of tables of `T`.
    pub fn tables<T: serde::de::DeserializeOwned>(&mut self, key: &'static str) -> Result<Option<Vec<T>>, String> {
        let Some(setting) = self.take(key) else { return Ok(None) };
        let Value::Array(tables) = &setting.value else {
            return Err(setting.wrong(key, format_args!("tables, each under its own [[{key}]]")));
        };
        let origin = setting.origin();
        let read = |(i, t): (usize, &Value)| {
            let name = t.get("name").and_then(Value::as_str).map(|n| format!(" ({n:?})")).unwrap_or_default();
            t.clone().try_into::<T>().map_err(|e| format!("{origin}: [[{key}]] number {}{name}: {}", i + 1, e.to_string().trim_end()))
        };
        tables.iter().enumerate().map(read).collect::<Result<_, _>>().map(Some)
    }

    /// To be called last: a key of the file that nobody asked for is an error, one of the environment is returned as a warning, because
    /// container platforms add variables of their own (`RAPPORT_HTTP_PORT=tcp://…` beside a service called `rapport-http`).
    pub fn finish(self) -> Result<Vec<String>, String> {
        let mut warnings = Vec::new();
        for (key, setting) in &self.by_key {
            let near = self
                .asked
                .iter()
                .map(|known| (distance(key, known), known))
                .min()
                .filter(|(d, known)| *d <= 3.min(known.len() / 3))
                .map(|(_, known)| format!("; did you mean {known}?"));
            match &setting.source {
                Source::Environment(name) => {
                    let near = near.unwrap_or_default();
                    warnings.push(format!("environment variable {name} is no setting ({key} does not exist{near}); it is ignored"));
                }
                _ => {
                    let known = near.unwrap_or_else(|| format!("; known keys are {}", self.asked.join(", ")));
                    return Err(format!("{}: unknown key {key} = {}{known}", setting.origin(), show(key, &setting.value)));
                }
            }
        }
        Ok(warnings)
    }

    /// For a message about several keys at once: where `key` was set, as long as it has not been taken.
    pub fn origin(&self, key: &str) -> Option<String> {
        self.by_key.get(key).map(Setting::origin)
    }
}

impl Setting {
    fn origin(&self) -> String {
        match &self.source {
            Source::File(path) => path.display().to_string(),
            Source::Environment(name) => format!("environment variable {name}"),
            Source::Flag(flag) => (*flag).to_string(),
        }
    }

    fn wrong(&self, key: &str, right: impl Display) -> String {
        format!("{}: {key} = {}: must be {right}", self.origin(), show(key, &self.value))
    }
}

/// A value for a message; secrets are not shown.
fn show(key: &str, value: &Value) -> String {
    if super::is_secret(key) { "(hidden)".into() } else { value.to_string() }
}

fn flatten(prefix: &str, table: &toml::Table, out: &mut BTreeMap<String, String>) -> Result<(), String> {
    for (key, value) in table {
        // `security.protocol = "SSL"` is a nested table to TOML and one property to librdkafka.
        let name = if prefix.is_empty() { key.clone() } else { format!("{prefix}.{key}") };
        match value {
            Value::Table(inner) => flatten(&name, inner, out)?,
            Value::String(s) => drop(out.insert(name, s.clone())),
            Value::Integer(_) | Value::Float(_) | Value::Boolean(_) => drop(out.insert(name, value.to_string())),
            _ => return Err(name),
        }
    }
    Ok(())
}

/// Levenshtein distance in bytes.
fn distance(a: &str, b: &str) -> usize {
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.bytes().enumerate() {
        let mut diagonal = std::mem::replace(&mut row[0], i + 1);
        for (j, y) in b.bytes().enumerate() {
            let substituted = diagonal + usize::from(x != y);
            diagonal = row[j + 1];
            row[j + 1] = substituted.min(row[j] + 1).min(diagonal + 1);
        }
    }
    row[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn distances() {
        assert_eq!(distance("log.kind", "log.kind"), 0);
        assert_eq!(distance("log.borkers", "log.brokers"), 2);
        assert_eq!(distance("", "abc"), 3);
        assert_eq!(distance("kitten", "sitting"), 3);
    }
}
