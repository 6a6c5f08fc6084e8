//! Whether a string is a language tag by the grammar of BCP 47 (RFC 5646, section 2.1). Knows no registry of languages.

/// Tags of that section that its grammar lists one by one, because no rule covers them.
const IRREGULAR: [&str; 17] = [
    "en-gb-oed",
    "i-ami",
    "i-bnn",
    "i-default",
    "i-enochian",
    "i-hak",
    "i-klingon",
    "i-lux",
    "i-mingo",
    "i-navajo",
    "i-pwn",
    "i-tao",
    "i-tay",
    "i-tsu",
    "sgn-be-fr",
    "sgn-be-nl",
    "sgn-ch-de",
];

/// `language [-script] [-region] *(-variant) *(-extension) [-privateuse]`, or private use alone, or an irregular tag.
pub(super) fn is_well_formed(tag: &str) -> bool {
    let alpha = |s: &str, min: usize, max: usize| (min..=max).contains(&s.len()) && s.bytes().all(|b| b.is_ascii_alphabetic());
    let alnum = |s: &str, min: usize, max: usize| (min..=max).contains(&s.len()) && s.bytes().all(|b| b.is_ascii_alphanumeric());
    let is_x = |s: &str| s.eq_ignore_ascii_case("x");

    let mut parts = tag.split('-').peekable();
    let Some(first) = parts.next() else { return false };
    if !is_x(first) {
        if !alpha(first, 2, 8) {
            return IRREGULAR.iter().any(|t| t.eq_ignore_ascii_case(tag));
        }
        if first.len() <= 3 {
            // Up to three extended language subtags.
            for _ in 0..3 {
                if parts.next_if(|s| alpha(s, 3, 3)).is_none() {
                    break;
                }
            }
        }
        parts.next_if(|s| alpha(s, 4, 4));
        parts.next_if(|s| alpha(s, 2, 2) || (s.len() == 3 && s.bytes().all(|b| b.is_ascii_digit())));
        while parts.next_if(|s| alnum(s, 5, 8) || (alnum(s, 4, 4) && s.as_bytes()[0].is_ascii_digit())).is_some() {}
        while parts.next_if(|s| alnum(s, 1, 1) && !is_x(s)).is_some() {
            let mut subtags = 0;
            while parts.next_if(|s| alnum(s, 2, 8)).is_some() {
                subtags += 1;
            }
            if subtags == 0 {
                return false;
            }
        }
        match parts.next() {
            None => return true,
            Some(s) if is_x(s) => {}
            Some(_) => return IRREGULAR.iter().any(|t| t.eq_ignore_ascii_case(tag)),
        }
    }
    // Private use: at least one subtag, and nothing but such.
    parts.peek().is_some() && parts.all(|s| alnum(s, 1, 8))
}

#[cfg(test)]
mod tests {
    use super::is_well_formed;

    #[test]
    fn tags_of_rfc_5646_appendix_a() {
        for tag in [
            "de",
            "fr",
            "ja",
            "i-enochian",
            "zh-Hant",
            "zh-Hans",
            "sr-Cyrl",
            "zh-cmn-Hans-CN",
            "cmn-Hans-CN",
            "zh-yue-HK",
            "sr-Latn-RS",
            "sl-rozaj",
            "sl-rozaj-biske",
            "sl-nedis",
            "de-CH-1901",
            "sl-IT-nedis",
            "hy-Latn-IT-arevela",
            "de-DE",
            "en-US",
            "es-419",
            "de-CH-x-phonebk",
            "az-Arab-x-AZE-derbend",
            "x-whatever",
            "qaa-Qaaa-QM-x-southern",
            "de-Qaaa",
            "en-US-u-islamcal",
            "zh-CN-a-myext-x-private",
            "en-a-myext-b-another",
            "en-GB-oed",
            "sgn-BE-FR",
            "zh-min-nan",
            "art-lojban",
            "EN-us",
            "english",
        ] {
            assert!(is_well_formed(tag), "{tag}");
        }
        for tag in [
            "",
            "-",
            "e",
            "1",
            "de-419-DE",
            "a-DE",
            "zh_CN",
            "en-",
            "-en",
            "en--US",
            "x",
            "x-",
            "en-x",
            "en-a",
            "en-a-x-y",
            "en-USA1-",
            "i-unknown",
            "englishes",
            "en-US-US",
            "中文",
            "en US",
            "zh-cmn-yue-wuu-hak",
            "x-toolongsubtag",
            "de-ß",
        ] {
            assert!(!is_well_formed(tag), "{tag}");
        }
    }
}
