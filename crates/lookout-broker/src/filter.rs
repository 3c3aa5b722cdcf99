//! Topic names and topic filters (MQTT 3.1.1, section 4.7).

/// Whether `topic` may be published to.
pub(crate) fn is_topic(topic: &str) -> bool {
    !topic.is_empty() && !topic.contains(['+', '#', '\0'])
}

/// Whether `filter` may be subscribed to: `+` fills a level, `#` fills the last one.
pub(crate) fn is_filter(filter: &str) -> bool {
    if filter.is_empty() || filter.contains('\0') {
        return false;
    }
    let n_levels = filter.split('/').count();
    filter.split('/').enumerate().all(|(idx, level)| match level {
        "+" => true,
        "#" => idx + 1 == n_levels,
        other => !other.contains(['+', '#']),
    })
}

/// Whether a valid `filter` covers a valid `topic`. Topics that start with `$` are covered only
/// by filters that do.
pub(crate) fn covers(filter: &str, topic: &str) -> bool {
    if topic.starts_with('$') && filter.starts_with(['+', '#']) {
        return false;
    }
    let mut levels = topic.split('/');
    for want in filter.split('/') {
        if want == "#" {
            return true;
        }
        match levels.next() {
            Some(level) if want == "+" || want == level => (),
            _ => return false,
        }
    }
    levels.next().is_none()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn filters_cover_as_the_standard_says() {
        for (filter, topic, expected) in [
            ("a/b", "a/b", true),
            ("a/b", "a/b/c", false),
            ("a/b/c", "a/b", false),
            ("a/+", "a/b", true),
            ("a/+", "a/", true),
            ("a/+", "a/b/c", false),
            ("a/+/c", "a/é/c", true),
            ("+", "a", true),
            ("+", "/a", false),
            ("+/+", "/a", true),
            ("a/#", "a", true),
            ("a/#", "a/b/c", true),
            ("a/#", "ab", false),
            ("#", "é/b", true),
            ("#", "$SYS/x", false),
            ("+/x", "$SYS/x", false),
            ("$SYS/#", "$SYS/x", true),
        ] {
            assert_eq!(covers(filter, topic), expected, "{filter} {topic}");
        }
    }

    #[test]
    fn wildcards_fill_whole_levels() {
        for good in ["a", "/", "+", "#", "a/+/b", "+/#", "$share"] {
            assert!(is_filter(good), "{good}");
        }
        for bad in ["", "a+", "a/b#", "#/a", "a/#/b", "++", "a\0"] {
            assert!(!is_filter(bad), "{bad}");
        }
        assert!(is_topic("a/b") && !is_topic("a/+") && !is_topic("#") && !is_topic(""));
    }
}
