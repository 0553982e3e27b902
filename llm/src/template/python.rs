//! What chat templates expect of Python's Jinja and of transformers, and minijinja lacks.

use super::bounds::{self, MAX_TEXT};
use minijinja::{
    Error, ErrorKind, State, Value,
    value::{Kwargs, ValueKind, from_args},
};
use minijinja_contrib::pycompat::unknown_method_callback;
use std::borrow::Cow;

/// The deepest value that [`tojson`] writes.
const MAX_DEPTH: usize = 128;

/// The text of a template as Jinja sees it: every line ends in `\n`. The blocks `{% generation %}`, by which transformers
/// finds the model's own words, become blocks that only render their body; variables set there stay there.
pub(super) fn source(text: &str) -> String {
    let text = text.replace("\r\n", "\n").replace('\r', "\n");
    let mut out = String::with_capacity(text.len());
    let mut rest = text.as_str();
    while let Some(start) = rest.find("{%") {
        let (before, tag) = rest.split_at(start + 2);
        let end = tag.find("%}").unwrap_or(tag.len());
        let (inner, after) = tag.split_at(end);
        out.push_str(before);
        out.push_str(&match inner.trim_matches(['-', '+', ' ', '\t', '\n']) {
            "generation" => inner.replace("generation", "with"),
            "endgeneration" => inner.replace("endgeneration", "endwith"),
            _ => inner.to_owned(),
        });
        rest = after;
    }
    out + rest
}

/// The methods that minijinja's own emulation of Python lacks, then those that it has.
pub(super) fn method(
    state: &State<'_, '_>,
    value: &Value,
    name: &str,
    args: &[Value],
) -> Result<Value, Error> {
    let Some(text) = value.as_str() else {
        return unknown_method_callback(state, value, name, args);
    };
    match name {
        "removeprefix" => {
            let (prefix,): (&str,) = from_args(args)?;
            Ok(text.strip_prefix(prefix).unwrap_or(text).into())
        }
        "removesuffix" => {
            let (suffix,): (&str,) = from_args(args)?;
            Ok(text.strip_suffix(suffix).unwrap_or(text).into())
        }
        // minijinja's own finds nothing for ever.
        "count" if args.first().and_then(Value::as_str) == Some("") => {
            Ok((text.chars().count() + 1).into())
        }
        "format" => {
            bounds::check_pattern(text)?;
            unknown_method_callback(state, value, name, args)
        }
        "partition" => {
            let (at,): (&str,) = from_args(args)?;
            let at = separator(at)?;
            let (before, found, after) = match text.split_once(at) {
                Some((before, after)) => (before, at, after),
                None => (text, "", ""),
            };
            Ok([before, found, after].into_iter().collect())
        }
        "rsplit" => {
            let (at, most): (Option<&str>, Option<i64>) = from_args(args)?;
            let most = most.and_then(|most| usize::try_from(most).ok());
            let most = most.unwrap_or(usize::MAX);
            let mut parts: Vec<&str> = match at {
                Some(at) => text
                    .rsplitn(most.saturating_add(1), separator(at)?)
                    .collect(),
                None => words_from_the_end(text, most),
            };
            parts.reverse();
            Ok(parts.into_iter().collect())
        }
        _ => unknown_method_callback(state, value, name, args),
    }
}

fn separator(at: &str) -> Result<&str, Error> {
    if at.is_empty() {
        return Err(invalid("empty separator"));
    }
    Ok(at)
}

/// The last `most` words, the last one first, and what is before them.
fn words_from_the_end(text: &str, most: usize) -> Vec<&str> {
    let mut words = vec![];
    let mut rest = text.trim_end();
    while !rest.is_empty() && words.len() < most {
        let word = rest.rsplit(char::is_whitespace).next().unwrap_or(rest);
        words.push(word);
        rest = rest[..rest.len() - word.len()].trim_end();
    }
    words.extend(Some(rest).filter(|rest| !rest.is_empty()));
    words
}

/// `json.dumps` of Python, with the defaults of transformers: text outside ASCII stays as it is.
#[expect(
    clippy::needless_pass_by_value,
    reason = "minijinja gives the options of a filter by value"
)]
pub(super) fn tojson(value: &Value, options: Kwargs) -> Result<String, Error> {
    let option = |key| options.get::<Option<Value>>(key);
    let on = |key| Ok::<_, Error>(option(key)?.is_some_and(|value| value.is_true()));
    let indent = match option("indent")?.filter(|indent| !indent.is_none()) {
        None => None,
        Some(indent) => Some(match indent.as_str() {
            Some(text) => text.to_owned(),
            None => " ".repeat(i16::try_from(indent)?.max(0) as usize),
        }),
    };
    // Python leaves no space at the end of a line.
    let comma = if indent.is_some() { "," } else { ", " };
    let (comma, colon) = match option("separators")?.filter(|pair| !pair.is_none()) {
        None => (comma.to_owned(), ": ".to_owned()),
        Some(pair) => {
            let pair: Vec<String> = pair.try_iter()?.map(|part| part.to_string()).collect();
            <[String; 2]>::try_from(pair)
                .map_err(|_| invalid("separators must be two texts"))?
                .into()
        }
    };
    let writer = Json {
        indent,
        comma,
        colon,
        sorted: on("sort_keys")?,
        ascii: on("ensure_ascii")?,
    };
    options.assert_all_used()?;
    let mut out = String::new();
    writer.write(value, 0, &mut out)?;
    Ok(out)
}

struct Json {
    indent: Option<String>,
    comma: String,
    colon: String,
    sorted: bool,
    ascii: bool,
}

impl Json {
    fn write(&self, value: &Value, depth: usize, out: &mut String) -> Result<(), Error> {
        if depth == MAX_DEPTH {
            let reason = format!("tojson: values are nested more than {MAX_DEPTH} deep");
            return Err(invalid(reason));
        }
        if out.len() > MAX_TEXT {
            return Err(invalid(format!("tojson: more than {MAX_TEXT} bytes")));
        }
        match value.kind() {
            ValueKind::Seq | ValueKind::Iterable => {
                let items = value.try_iter()?.map(|item| (None, item));
                self.list(['[', ']'], items, depth, out)
            }
            ValueKind::Map => {
                let mut keys: Vec<Value> = value.try_iter()?.collect();
                if self.sorted {
                    keys.sort();
                }
                let items = keys.into_iter().map(|key| {
                    let item = value.get_item(&key).unwrap_or_default();
                    (Some(key), item)
                });
                self.list(['{', '}'], items, depth, out)
            }
            _ => {
                out.push_str(&self.scalar(value)?);
                Ok(())
            }
        }
    }

    fn list(
        &self,
        [open, close]: [char; 2],
        items: impl Iterator<Item = (Option<Value>, Value)>,
        depth: usize,
        out: &mut String,
    ) -> Result<(), Error> {
        let line = |depth: usize| {
            let indent = self.indent.as_ref();
            indent.map_or(String::new(), |indent| {
                format!("\n{}", indent.repeat(depth))
            })
        };
        out.push(open);
        let mut any = false;
        for (key, item) in items {
            if any {
                out.push_str(&self.comma);
            }
            any = true;
            out.push_str(&line(depth + 1));
            if let Some(key) = key {
                let text = match key.as_str() {
                    Some(_) => self.scalar(&key)?.into_owned(),
                    None => format!("\"{}\"", self.scalar(&key)?),
                };
                out.push_str(&text);
                out.push_str(&self.colon);
            }
            self.write(&item, depth + 1, out)?;
        }
        if any {
            out.push_str(&line(depth));
        }
        out.push(close);
        Ok(())
    }

    fn scalar<'a>(&self, value: &'a Value) -> Result<Cow<'a, str>, Error> {
        Ok(match value.kind() {
            ValueKind::None => "null".into(),
            ValueKind::Bool if value.is_true() => "true".into(),
            ValueKind::Bool => "false".into(),
            ValueKind::Number if value.is_integer() => value.to_string().into(),
            ValueKind::Number => float(f64::try_from(value.clone())?).into(),
            ValueKind::String => self.quoted(value.as_str().unwrap_or_default()).into(),
            kind => return Err(invalid(format!("tojson: {kind} is no value of JSON"))),
        })
    }

    fn quoted(&self, text: &str) -> String {
        let quoted = serde_json::Value::from(text).to_string();
        if !self.ascii {
            return quoted;
        }
        let mut out = String::with_capacity(quoted.len());
        for c in quoted.chars() {
            if matches!(c, ' '..='~') {
                out.push(c);
            } else {
                let units = c.encode_utf16(&mut [0; 2]).to_vec();
                out.extend(units.iter().map(|unit| format!("\\u{unit:04x}")));
            }
        }
        out
    }
}

/// A number as Python prints it: as Rust does, but for names, and exponents of a sign and two digits.
fn float(x: f64) -> String {
    if x.is_nan() {
        return "NaN".into();
    }
    if x.is_infinite() {
        return if x > 0.0 { "Infinity" } else { "-Infinity" }.into();
    }
    let text = format!("{x:?}");
    match text.split_once('e') {
        None => text,
        Some((digits, exponent)) => match exponent.strip_prefix('-') {
            Some(exponent) => format!("{digits}e-{exponent:0>2}"),
            None => format!("{digits}e+{exponent:0>2}"),
        },
    }
}

pub(super) fn invalid(reason: impl Into<Cow<'static, str>>) -> Error {
    Error::new(ErrorKind::InvalidOperation, reason)
}
