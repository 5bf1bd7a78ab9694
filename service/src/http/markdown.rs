//! HTML of the pages in `docs`, for browsers. Only what those pages use: headings, paragraphs, lists, fenced code, and
//! within a line code, bold and links. Everything else is text, and all text is escaped.

/// Reads well on a small screen and in the dark; nothing is fetched from elsewhere.
const STYLE: &str = "\
:root{color-scheme:light dark;--text:#1c2128;--soft:#59636e;--ground:#fff;--box:#f3f5f7;--line:#d8dee4;--link:#0b61c4}\
@media(prefers-color-scheme:dark){:root{--text:#e4e8ec;--soft:#9aa4af;--ground:#14181d;--box:#1f252c;--line:#343c45;--link:#6cb0ff}}\
body{max-width:46rem;margin:3rem auto;padding:0 1.25rem;font:1rem/1.6 system-ui,sans-serif;color:var(--text);background:var(--ground)}\
h1{margin:0;font-size:1.9rem;line-height:1.25}\
h1+p{margin:.4rem 0 1.6rem;padding-bottom:1rem;color:var(--soft);border-bottom:1px solid var(--line)}\
h2{margin:2rem 0 .5rem;font-size:1.15rem}\
p,ul,pre{margin:.5rem 0}ul{padding-left:1.3rem}li{margin:.3rem 0}\
code{padding:.1em .35em;border-radius:4px;background:var(--box);font:.88em/1.5 ui-monospace,monospace;overflow-wrap:anywhere}\
pre{padding:.9rem 1.1rem;border:1px solid var(--line);border-radius:6px;background:var(--box);overflow-x:auto}\
pre code{padding:0;background:none;overflow-wrap:normal}\
a{color:var(--link);text-underline-offset:.15em}";

/// A part of a page.
enum Block<'a> {
    Heading(usize, &'a str),
    Paragraph(Vec<&'a str>),
    List(Vec<Vec<&'a str>>),
    Code(Vec<&'a str>),
}

/// A whole HTML document of a page. Links to other pages lose their `.md`.
pub(super) fn document(title: &str, markdown: &str) -> String {
    let mut html = String::from("<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n");
    html.push_str("<meta name=\"viewport\" content=\"width=device-width,initial-scale=1\">\n<title>");
    escape(title, &mut html);
    html.push_str("</title>\n<style>");
    html.push_str(STYLE);
    html.push_str("</style>\n</head>\n<body>\n");
    for block in blocks(markdown) {
        write_block(&block, &mut html);
    }
    html.push_str("</body>\n</html>\n");
    html
}

fn blocks(markdown: &str) -> Vec<Block<'_>> {
    let mut blocks = Vec::new();
    let mut lines = markdown.lines();
    // Whether the last block may go on: a blank line ends it.
    let mut open = false;
    while let Some(line) = lines.next() {
        if line.trim().is_empty() {
            open = false;
            continue;
        }
        if line.starts_with("```") {
            blocks.push(Block::Code(lines.by_ref().take_while(|line| !line.starts_with("```")).collect()));
            open = false;
            continue;
        }
        let level = line.bytes().take_while(|byte| *byte == b'#').count();
        if let Some(heading) = line[level..].strip_prefix(' ').filter(|_| (1..=6).contains(&level)) {
            blocks.push(Block::Heading(level, heading));
            open = false;
            continue;
        }
        let item = line.strip_prefix("- ");
        match (item, blocks.last_mut().filter(|_| open)) {
            (Some(item), Some(Block::List(items))) => items.push(vec![item]),
            (Some(item), _) => blocks.push(Block::List(vec![vec![item]])),
            (None, Some(Block::List(items))) => items.last_mut().expect("a list has items").push(line.trim()),
            (None, Some(Block::Paragraph(lines))) => lines.push(line.trim()),
            (None, _) => blocks.push(Block::Paragraph(vec![line.trim()])),
        }
        open = true;
    }
    blocks
}

fn write_block(block: &Block<'_>, html: &mut String) {
    match block {
        Block::Heading(level, text) => {
            html.push_str(&format!("<h{level}>"));
            write_text(text, html);
            html.push_str(&format!("</h{level}>\n"));
        }
        Block::Paragraph(lines) => {
            html.push_str("<p>");
            write_text(&lines.join("\n"), html);
            html.push_str("</p>\n");
        }
        Block::List(items) => {
            html.push_str("<ul>\n");
            for lines in items {
                html.push_str("<li>");
                write_text(&lines.join("\n"), html);
                html.push_str("</li>\n");
            }
            html.push_str("</ul>\n");
        }
        Block::Code(lines) => {
            html.push_str("<pre><code>");
            escape(&lines.join("\n"), html);
            html.push_str("</code></pre>\n");
        }
    }
}

fn write_text(text: &str, html: &mut String) {
    let mut rest = text;
    while let Some(at) = rest.find(['`', '*', '[']) {
        escape(&rest[..at], html);
        rest = write_span(&rest[at..], html);
    }
    escape(rest, html);
}

/// Writes the code, bold text or link that begins here, or else one sign, and returns what follows.
fn write_span<'a>(text: &'a str, html: &mut String) -> &'a str {
    if let Some((code, rest)) = text.strip_prefix('`').and_then(|text| text.split_once('`')) {
        html.push_str("<code>");
        escape(code, html);
        html.push_str("</code>");
        return rest;
    }
    if let Some((bold, rest)) = text.strip_prefix("**").and_then(|text| text.split_once("**")) {
        html.push_str("<strong>");
        write_text(bold, html);
        html.push_str("</strong>");
        return rest;
    }
    if let Some((label, rest)) = text.strip_prefix('[').and_then(|text| text.split_once("]("))
        && let Some((target, rest)) = rest.split_once(')')
    {
        html.push_str("<a href=\"");
        escape(target.strip_suffix(".md").unwrap_or(target), html);
        html.push_str("\">");
        escape(label, html);
        html.push_str("</a>");
        return rest;
    }
    let (sign, rest) = text.split_at(1);
    html.push_str(sign);
    rest
}

fn escape(text: &str, html: &mut String) {
    for character in text.chars() {
        match character {
            '&' => html.push_str("&amp;"),
            '<' => html.push_str("&lt;"),
            '>' => html.push_str("&gt;"),
            '"' => html.push_str("&quot;"),
            other => html.push(other),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::document;

    fn body(markdown: &str) -> String {
        let html = document("t", markdown);
        let (_, body) = html.split_once("<body>\n").unwrap();
        body.strip_suffix("</body>\n</html>\n").unwrap().to_owned()
    }

    #[test]
    fn blocks_are_told_apart() {
        let markdown = "# a\n\none\ntwo\n\n## b\n- x\n  y\n- z\n\n```json\n- {\n\n}\n```\nafter\n";
        let html = "<h1>a</h1>\n<p>one\ntwo</p>\n<h2>b</h2>\n<ul>\n<li>x\ny</li>\n<li>z</li>\n</ul>\n\
            <pre><code>- {\n\n}</code></pre>\n<p>after</p>\n";
        assert_eq!(body(markdown), html);
    }

    #[test]
    fn code_bold_text_and_links_are_written_within_a_line() {
        let markdown = "`a<b` **no `x`** [lock-held](lock-held.md) [web](https://example.org/a?b&c)";
        let html = "<p><code>a&lt;b</code> <strong>no <code>x</code></strong> <a href=\"lock-held\">lock-held</a> \
            <a href=\"https://example.org/a?b&amp;c\">web</a></p>\n";
        assert_eq!(body(markdown), html);
    }

    #[test]
    fn everything_else_is_text_and_all_text_is_escaped() {
        for sample in ["<script>", "a ` b", "2 * 3 ** 4", "[x] y", "[x](y", "`**", "####### h", "#h", "é`ü"]
        {
            let escaped = sample.replace('<', "&lt;").replace('>', "&gt;");
            assert_eq!(body(sample), format!("<p>{escaped}</p>\n"), "{sample}");
        }
        assert_eq!(body("```\n<b>&\n"), "<pre><code>&lt;b&gt;&amp;</code></pre>\n");
        let hostile = body("[\"><script>](\"><script>)");
        assert!(!hostile.contains("<script"), "{hostile}");
        assert!(document("</title><script>", "").contains("<title>&lt;/title&gt;&lt;script&gt;</title>"));
    }
}
