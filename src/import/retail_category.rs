//! A coarse category of a gift-shop article from its description.
//!
//! Online Retail II publishes no categories; these are the shelves that its commonest words name. The first shelf with a word wins.

/// Shelf and the words of a description that put an article there; a word ending in `*` stands for every word that begins so.
const SHELVES: [(&str, &[&str]); 18] = [
    ("christmas", &["christmas", "xmas", "advent", "santa", "reindeer", "snowflake", "bauble*", "snowman"]),
    ("party", &["bunting", "party", "balloon*", "birthday", "garland*", "streamer*", "paperchain*", "chain"]),
    ("wrapping", &["wrap", "ribbon*", "tissue", "tag", "tags", "gift"]),
    ("cards", &["card", "cards", "postcard*", "greeting"]),
    ("bags", &["bag", "bags", "shopper*", "purse*", "tote*", "handbag*", "wallet"]),
    ("baking", &["cake*", "baking", "cutter*", "recipe", "muffin*", "cookie", "scales", "tin", "tins", "jelly", "jam"]),
    (
        "tableware",
        &["mug*", "cup", "cups", "saucer*", "teacup*", "bowl*", "plate*", "dish*", "cutlery", "napkin*", "jug*", "teapot*", "glass"],
    ),
    (
        "kitchen",
        &["kitchen", "apron*", "lunch", "bottle*", "pantry", "towel*", "egg*", "spoon*", "oven", "beaker*", "tray*", "jar*", "pot"],
    ),
    ("lighting", &["light*", "t-light*", "candle*", "lantern*", "lamp*", "incense", "chandelier"]),
    (
        "toys",
        &["toy*", "game*", "doll*", "jigsaw", "playhouse", "puppet*", "dominoes", "skipping", "childrens", "childs", "magic", "dinosaur*"],
    ),
    (
        "stationery",
        &["notebook*", "pencil*", "pen", "pens", "sticker*", "stickers", "eraser*", "ruler*", "journal", "passport", "letters", "magnet*"],
    ),
    ("craft", &["felt*", "sewing", "knitting", "craft*", "kit", "cross", "patches"]),
    ("storage", &["box*", "storage", "drawer*", "cabinet*", "basket*", "rack*", "hook*", "hanger*", "knob*", "bank", "shelf", "organiser"]),
    ("garden", &["garden*", "plant*", "bird*", "parasol", "umbrella*", "watering", "bucket", "picnic", "seed*", "flower*"]),
    ("jewellery", &["necklace*", "bracelet*", "earring*", "ring", "brooch", "charm", "bangle*", "hair", "locket*"]),
    (
        "home",
        &[
            "cushion*",
            "clock*",
            "frame*",
            "mirror*",
            "doormat*",
            "doorstop*",
            "curtain*",
            "quilt*",
            "chalkboard*",
            "sign",
            "signs",
            "wall",
            "photo",
            "bathroom",
        ],
    ),
    ("health", &["plasters", "tissues", "soap*", "bath*", "warmer*", "first", "toothbrush*"]),
    ("decoration", &["decoration*", "heart*", "hanging", "ornament*", "wreath", "star", "butterfly", "feather", "block*", "trinket"]),
];

/// The shelf of an article; `charges` for codes that are no article (postage, bank charges, manual corrections), `other` where no word is known.
pub fn category(stock_code: &str, description: &str) -> &'static str {
    if !stock_code.starts_with(|c: char| c.is_ascii_digit()) {
        return "charges";
    }
    let description = description.to_lowercase();
    let words: Vec<&str> = description.split(|c: char| !c.is_alphanumeric() && c != '-').filter(|w| !w.is_empty()).collect();
    let named = |pattern: &&str| match pattern.strip_suffix('*') {
        Some(start) => words.iter().any(|w| w.starts_with(start)),
        None => words.contains(pattern),
    };
    SHELVES.iter().find(|(_, patterns)| patterns.iter().any(named)).map_or("other", |(shelf, _)| shelf)
}

#[cfg(test)]
mod tests {
    use super::category;

    #[test]
    fn shelves_follow_the_words() {
        for (code, description, shelf) in [
            ("85123A", "WHITE HANGING HEART T-LIGHT HOLDER", "lighting"),
            ("84406B", "CREAM CUPID HEARTS COAT HANGER", "storage"),
            ("22423", "REGENCY CAKESTAND 3 TIER", "baking"),
            ("85099B", "JUMBO BAG RED RETROSPOT", "bags"),
            ("POST", "POSTAGE", "charges"),
            ("12345", "", "other"),
        ] {
            assert_eq!(category(code, description), shelf, "{description}");
        }
    }
}
