//! The fixed word splitter and hash: part of the stored state's format, never of a model bundle.
//!
//! A text is lower-cased and cut into runs of letters, runs of digits, single ideographs and kana, and single symbols. English clitics are split
//! off as in the Penn Treebank (`don't` → `do` `n't`, `it's` → `it` `'s`). White space and control characters separate and are dropped.

use xxhash_rust::xxh3::xxh3_64;

/// Version of the splitter and of [`hash`]. A change invalidates every stored state and every bundle.
pub const SPLITTER: u32 = 1;
/// A text longer than `HEAD + TAIL` tokens keeps its first and its last ones.
pub const HEAD: usize = 64;
pub const TAIL: usize = 64;

/// Hash of a word, kind, channel or any other name; never 0, which means absent.
pub fn hash(word: &str) -> u32 {
    (xxh3_64(word.as_bytes()) as u32).max(1)
}

/// Bits of [`Splitter::marks`].
pub const QUESTION: u8 = 1;
pub const EXCLAMATION: u8 = 2;
pub const DIGIT: u8 = 4;

/// Splits one text after the other into reused buffers.
#[derive(Debug, Default)]
pub struct Splitter {
    lower: String,
    spans: Vec<(u32, u32)>,
    marks: u8,
    length: usize,
}

#[derive(Clone, Copy, PartialEq)]
enum Class {
    Letter,
    Digit,
    Single,
    Apostrophe,
    Space,
}

fn class(c: char) -> Class {
    match c {
        'a'..='z' | 'A'..='Z' => Class::Letter,
        '0'..='9' => Class::Digit,
        '\'' | '’' => Class::Apostrophe,
        _ if c.is_ascii_whitespace() || c.is_ascii_control() => Class::Space,
        _ if c.is_ascii() => Class::Single,
        '\u{3040}'..='\u{30ff}'
        | '\u{3400}'..='\u{4dbf}'
        | '\u{4e00}'..='\u{9fff}'
        | '\u{f900}'..='\u{faff}'
        | '\u{20000}'..='\u{3ffff}' => Class::Single,
        _ if c.is_alphabetic() => Class::Letter,
        _ if c.is_numeric() => Class::Digit,
        // Combining marks and joiners belong to the word that they stand in, as do vowel signs of Indic and South-East Asian scripts.
        '\u{300}'..='\u{36f}' | '\u{200c}' | '\u{200d}' | '\u{fe0f}' => Class::Letter,
        '\u{900}'..='\u{eff}' | '\u{1000}'..='\u{109f}' | '\u{1780}'..='\u{17ff}' => Class::Letter,
        _ if c.is_whitespace() || c.is_control() || matches!(c, '\u{200b}' | '\u{200e}' | '\u{200f}' | '\u{feff}') => Class::Space,
        _ => Class::Single,
    }
}

impl Splitter {
    /// Splits `text`; the result is read through the other methods until the next call.
    pub fn split(&mut self, text: &str) {
        lower_case(text, &mut self.lower);
        self.spans.clear();
        self.marks = 0;
        let text = self.lower.as_str();
        let mut at = 0;
        while let Some(c) = text[at..].chars().next() {
            let start = at;
            at += c.len_utf8();
            match class(c) {
                Class::Space => {}
                kind @ (Class::Letter | Class::Digit) => {
                    at = run_end(text, at, kind);
                    if kind == Class::Digit {
                        self.marks |= DIGIT;
                    }
                    self.spans.push((start as u32, at as u32));
                }
                Class::Apostrophe => {
                    // A clitic is an apostrophe between a word right before it and letters right after it.
                    let after_word =
                        self.spans.last().is_some_and(|&(s, e)| e as usize == start && class_at(text, s as usize) == Class::Letter);
                    if after_word {
                        at = run_end(text, at, Class::Letter);
                    }
                    let mut from = start as u32;
                    if &text[start..at] == "'t"
                        && text[..start].ends_with('n')
                        && let Some(last) = self.spans.last_mut()
                    {
                        from -= 1;
                        last.1 -= 1;
                        if last.0 == last.1 {
                            self.spans.pop();
                        }
                    }
                    self.spans.push((from, at as u32));
                }
                Class::Single => {
                    match c {
                        '?' => self.marks |= QUESTION,
                        '!' => self.marks |= EXCLAMATION,
                        _ => {}
                    }
                    self.spans.push((start as u32, at as u32));
                }
            }
        }
        self.length = self.spans.len();
        if self.length > HEAD + TAIL {
            self.spans.drain(HEAD..self.length - TAIL);
        }
    }

    /// The kept words, in order: all of them, or the first [`HEAD`] and last [`TAIL`].
    pub fn words(&self) -> impl ExactSizeIterator<Item = &str> {
        self.spans.iter().map(|&(s, e)| &self.lower[s as usize..e as usize])
    }

    /// Number of tokens of the whole text.
    pub fn length(&self) -> usize {
        self.length
    }

    /// [`QUESTION`], [`EXCLAMATION`], [`DIGIT`].
    pub fn marks(&self) -> u8 {
        self.marks
    }
}

fn lower_case(text: &str, out: &mut String) {
    out.clear();
    for c in text.chars() {
        match c {
            '’' => out.push('\''),
            _ if c.is_ascii() => out.push(c.to_ascii_lowercase()),
            // Full-width forms read as their ASCII twins.
            '\u{ff01}'..='\u{ff5e}' => out.push(char::from_u32(c as u32 - 0xfee0).unwrap_or(c).to_ascii_lowercase()),
            _ => out.extend(c.to_lowercase()),
        }
    }
}

fn class_at(text: &str, at: usize) -> Class {
    text[at..].chars().next().map_or(Class::Space, class)
}

fn run_end(text: &str, mut at: usize, kind: Class) -> usize {
    for c in text[at..].chars() {
        if class(c) != kind {
            break;
        }
        at += c.len_utf8();
    }
    at
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(text: &str) -> Vec<String> {
        let mut s = Splitter::default();
        s.split(text);
        s.words().map(str::to_owned).collect()
    }

    #[test]
    fn english() {
        assert_eq!(words("I don't think it's OK, b42!"), ["i", "do", "n't", "think", "it", "'s", "ok", ",", "b", "42", "!"]);
        assert_eq!(words("the dogs' 'quoted'"), ["the", "dogs", "'", "'", "quoted", "'"]);
        assert_eq!(words("Can’t"), ["ca", "n't"]);
        assert_eq!(words("n't"), ["n't"]);
    }

    #[test]
    fn chinese_and_others() {
        assert_eq!(words("发票呢?ABC"), ["发", "票", "呢", "?", "abc"]);
        assert_eq!(words("Ｈｅｌｌｏ，１２"), ["hello", ",", "12"]);
        assert_eq!(words("Größe naïve"), ["größe", "naïve"]);
        assert_eq!(words(" \u{200b}\t\u{feff}"), Vec::<String>::new());
    }

    #[test]
    fn long_texts_keep_both_ends() {
        let text: Vec<String> = (0..500).map(|i| format!("w{}x", "a".repeat(i % 7 + 1))).collect();
        let mut s = Splitter::default();
        s.split(&text.join(" "));
        assert_eq!((s.length(), s.words().len()), (500, 128));
        assert_eq!(s.words().next(), Some(text[0].as_str()));
        assert_eq!(s.words().last(), Some(text[499].as_str()));
    }
}
