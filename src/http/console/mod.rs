//! The console's one page. It holds no data: it asks the API for everything, with the token where one is wanted.

use std::sync::LazyLock;

use axum::http::header;
use axum::response::{Html, IntoResponse};

static PAGE: LazyLock<String> = LazyLock::new(|| {
    include_str!("page.html").replace("/*STYLE*/", include_str!("style.css")).replace("/*SCRIPT*/", include_str!("script.js"))
});

/// The page, with a policy that lets it load and reach nothing but this server. The scripts and styles of one answer run by its own nonce.
pub(super) fn page() -> impl IntoResponse {
    let nonce = nonce();
    let policy = format!(
        "default-src 'none'; connect-src 'self'; style-src 'nonce-{nonce}'; script-src 'nonce-{nonce}'; img-src data:; base-uri 'none'; \
         form-action 'none'; frame-ancestors 'none'"
    );
    let page = PAGE.replace("nonce=\"NONCE\"", &format!("nonce=\"{nonce}\""));
    ([(header::CONTENT_SECURITY_POLICY, policy), (header::REFERRER_POLICY, "no-referrer".to_owned())], Html(page))
}

/// 32 hex digits that no one can guess.
fn nonce() -> String {
    let mut bytes = [0u8; 16];
    if rustls::crypto::ring::default_provider().secure_random.fill(&mut bytes).is_err() {
        // Without randomness the page must not trust a constant: an empty nonce matches nothing, and nothing runs.
        return String::new();
    }
    bytes.iter().map(|b| format!("{b:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_page_is_one_file_that_reaches_nothing_else() {
        let page = &*PAGE;
        for outside in ["src=\"http", "@import", "url(http", "<link rel=\"stylesheet", "//cdn"] {
            assert!(!page.contains(outside), "{outside}");
        }
        assert_eq!(page.matches("nonce=\"NONCE\"").count(), 2);
        assert!(!page.contains("innerHTML"), "records must reach the page as text");
        assert_ne!(nonce(), nonce());
        assert_eq!(nonce().len(), 32);
    }
}
