//! Reads a printed Python list of strings or numbers, `['a', "it's", 3]`, as some sets publish them.

/// The elements as text, or what is wrong with the list.
pub fn parse(list: &str) -> Result<Vec<String>, String> {
    let mut chars = list.trim().chars();
    let mut elements = Vec::new();
    if chars.next() != Some('[') {
        return Err("a list should begin with [".into());
    }
    let mut next = chars.next();
    loop {
        while next.is_some_and(|c| c == ' ' || c == ',') {
            next = chars.next();
        }
        match next {
            Some(']') => break,
            Some(quote @ ('\'' | '"')) => {
                elements.push(quoted(&mut chars, quote)?);
                next = chars.next();
            }
            Some(_) => {
                let mut word = String::new();
                while let Some(c) = next.filter(|c| !matches!(c, ',' | ']')) {
                    word.push(c);
                    next = chars.next();
                }
                elements.push(word.trim().to_owned());
            }
            None => return Err("a list should end with ]".into()),
        }
    }
    if chars.as_str().trim().is_empty() { Ok(elements) } else { Err(format!("after the list comes {:?}", chars.as_str())) }
}

/// The rest of a string literal up to its closing quote.
fn quoted(chars: &mut std::str::Chars<'_>, quote: char) -> Result<String, String> {
    let mut text = String::new();
    loop {
        match chars.next() {
            Some(c) if c == quote => return Ok(text),
            Some('\\') => text.push(escape(chars)?),
            Some(c) => text.push(c),
            None => return Err(format!("a string is not closed by {quote}")),
        }
    }
}

fn escape(chars: &mut std::str::Chars<'_>) -> Result<char, String> {
    let digits = match chars.next() {
        Some('n') => return Ok('\n'),
        Some('t') => return Ok('\t'),
        Some('r') => return Ok('\r'),
        Some('x') => 2,
        Some('u') => 4,
        Some('U') => 8,
        Some(c @ ('\\' | '\'' | '"')) => return Ok(c),
        other => return Err(format!("\\{} is no escape", other.map(String::from).unwrap_or_default())),
    };
    let hex: String = chars.take(digits).collect();
    u32::from_str_radix(&hex, 16).ok().and_then(char::from_u32).ok_or_else(|| format!("{hex:?} is no character code"))
}

#[cfg(test)]
mod tests {
    use super::parse;

    #[test]
    fn reads_what_python_prints() {
        assert_eq!(parse("['a|||b', \"it's, ok\", 3, 12]").unwrap(), ["a|||b", "it's, ok", "3", "12"]);
        assert_eq!(parse(r"['\\n \' \n \u4f60\xe9\U0001F600']").unwrap(), ["\\n ' \n 你é😀"]);
        assert_eq!(parse("[]").unwrap(), Vec::<String>::new());
    }

    #[test]
    fn refuses_what_is_no_list() {
        for bad in ["", "a", "['a'", "['a", "['a'] x", r"['\q']", r"['\u12']", r"['\", "[1"] {
            assert!(parse(bad).is_err(), "{bad}");
        }
    }
}
