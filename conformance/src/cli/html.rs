//! The report as one HTML page without external files.

const PAGE: &str = include_str!("page.html");
const PLACE: &str = "\"POLYCHORD REPORT\"";

/// The page with the report in it.
pub(super) fn page(json: &str) -> String {
    // In a script, a closing tag would end it, whatever the string that it is in.
    PAGE.replacen(PLACE, &json.replace("</", "<\\/"), 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_report_is_in_the_page_and_cannot_leave_its_script() {
        assert_eq!(PAGE.matches(PLACE).count(), 1);
        let page = page(r#"{"name": "</script><b>"}"#);
        assert!(page.contains(r#"{"name": "<\/script><b>"}"#) && !page.contains(PLACE));
    }
}
