//! Chat templates: turn a conversation into text of the form that a model was trained on.

mod bounds;
mod python;

use crate::{
    error::{Error, Result},
    gguf::vocabulary,
    hf::fields::{Fields, read_json},
    small,
};
use bounds::{MAX_TEXT, Text};
use lacuna_io::GgufFile;
use minijinja::{Environment, ErrorKind, Value, context};
use serde::Serialize;
use std::{
    fmt,
    path::{Path, PathBuf},
    thread,
};

const NAME: &str = "chat_template";
/// The most bytes of a template that are read.
const MAX_TEMPLATE: u64 = 1 << 17;
/// Steps after which a template is assumed to run for ever.
const FUEL: u64 = 10_000_000;

/// Bytes of stack for compiling a template, and for each of its bytes.
const STACK: usize = 1 << 20;
const STACK_PER_BYTE: usize = 1 << 10;

/// One message of a conversation.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Message {
    /// `system`, `user` or `assistant`, or another role that the template knows.
    pub role: String,
    /// Its text.
    pub content: String,
}

impl Message {
    /// A message of `role`.
    pub fn new(role: impl Into<String>, content: impl Into<String>) -> Self {
        Self {
            role: role.into(),
            content: content.into(),
        }
    }
}

/// A checkpoint's chat template.
pub struct ChatTemplate {
    file: PathBuf,
    environment: Environment<'static>,
    bos: String,
    eos: String,
}

impl fmt::Debug for ChatTemplate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ChatTemplate")
            .field("file", &self.file)
            .field("bos", &self.bos)
            .field("eos", &self.eos)
            .finish_non_exhaustive()
    }
}

impl ChatTemplate {
    /// Compiles a template, which sees `bos` and `eos` as `bos_token` and `eos_token`. `file` is where
    /// error messages say it comes from.
    ///
    /// # Errors
    /// [`Error::Template`].
    pub fn new(file: impl AsRef<Path>, source: &str, bos: &str, eos: &str) -> Result<Self> {
        let file = file.as_ref().to_owned();
        let mut environment = Environment::new();
        environment.set_trim_blocks(true);
        environment.set_lstrip_blocks(true);
        environment.set_fuel(Some(FUEL));
        environment.set_unknown_method_callback(python::method);
        bounds::add_filters(&mut environment);
        environment.add_filter("tojson", python::tojson);
        environment.add_function("raise_exception", |message: String| {
            Err::<Value, _>(minijinja::Error::new(ErrorKind::InvalidOperation, message))
        });
        environment.add_function("strftime_now", |format: &str| {
            jiff::fmt::strtime::format(format, &jiff::Zoned::now())
                .map_err(|e| minijinja::Error::new(ErrorKind::InvalidOperation, e.to_string()))
        });
        let compiled = if source.len() as u64 > MAX_TEMPLATE {
            let bytes = source.len();
            Err(format!("it has {bytes} bytes, the limit is {MAX_TEMPLATE}"))
        } else {
            compiled(environment, python::source(source))
        };
        Ok(Self {
            environment: compiled.map_err(|reason| Error::Template {
                file: file.clone(),
                reason,
            })?,
            file,
            bos: bos.to_owned(),
            eos: eos.to_owned(),
        })
    }

    /// The template of a folder: `chat_template.jinja`, else that in `tokenizer_config.json`. If the
    /// folder has `tokenizer.gguf` and no `tokenizer.json`, the template in `tokenizer.gguf`. `None` if
    /// there is none.
    ///
    /// # Errors
    /// [`Error::Template`], [`Error::Malformed`], [`Error::Read`] and [`Error::File`].
    pub fn from_folder(folder: impl AsRef<Path>) -> Result<Option<Self>> {
        let folder = folder.as_ref();
        if let Some(file) = vocabulary(folder)? {
            return Self::from_gguf(&file);
        }
        let config_file = folder.join("tokenizer_config.json");
        let config = read_json(&config_file)?;
        let fields = match &config {
            None => None,
            Some(json) => Some(Fields::of(&config_file, json)?),
        };
        let token = |key| match &fields {
            None => Ok(String::new()),
            Some(fields) => special_token(fields, key),
        };
        let (bos, eos) = (token("bos_token")?, token("eos_token")?);

        let file = folder.join("chat_template.jinja");
        if let Some(source) = small::read_text(&file, MAX_TEMPLATE)? {
            return Self::new(file, &source, &bos, &eos).map(Some);
        }
        let Some(fields) = fields else {
            return Ok(None);
        };
        let source = match fields.get(NAME) {
            None => return Ok(None),
            Some(serde_json::Value::String(source)) => source,
            // A list of templates with names.
            Some(named) => {
                let of_name = |t: &&serde_json::Value| t["name"] == "default";
                let default = named.as_array().and_then(|all| all.iter().find(of_name));
                default
                    .and_then(|t| t["template"].as_str())
                    .ok_or_else(|| {
                        let expected = "text, or a list of templates with one named default";
                        fields.wrong(NAME, named, expected)
                    })?
            }
        };
        Self::new(&config_file, source, &bos, &eos).map(Some)
    }

    /// The template in the metadata of a GGUF file; `None` if there is none.
    ///
    /// # Errors
    /// [`Error::Template`], and [`Error::File`] for metadata of another type.
    pub fn from_gguf(file: &GgufFile) -> Result<Option<Self>> {
        let metadata = file.metadata();
        let Some(source) = metadata.find::<&str>("tokenizer.chat_template")? else {
            return Ok(None);
        };
        let tokens: Vec<&str> = metadata.find("tokenizer.ggml.tokens")?.unwrap_or_default();
        let token = |key| -> Result<&str> {
            let id = metadata.find::<usize>(key)?;
            let token = id.and_then(|id| tokens.get(id).copied());
            Ok(token.unwrap_or_default())
        };
        let bos = token("tokenizer.ggml.bos_token_id")?;
        let eos = token("tokenizer.ggml.eos_token_id")?;
        Self::new(file.path(), source, bos, eos).map(Some)
    }

    /// The text of a conversation. With `generate`, it ends where the model's answer is to begin.
    ///
    /// Templates usually write the first token themselves: encode the text with
    /// [`Tokenizer::encode_special`](crate::Tokenizer::encode_special) and add none.
    ///
    /// # Errors
    /// [`Error::Template`], with the template's own words where it refuses the conversation.
    pub fn render(&self, messages: &[Message], generate: bool) -> Result<String> {
        let none = Value::from(());
        let template = self.environment.get_template(NAME);
        let mut text = Text::default();
        let rendered = template.and_then(|template| {
            let context = context! {
                messages,
                bos_token => self.bos,
                eos_token => self.eos,
                add_generation_prompt => generate,
                tools => none,
                documents => none,
            };
            template.render_captured_to(context, &mut text).map(drop)
        });
        let refused = |reason| Error::Template {
            file: self.file.clone(),
            reason,
        };
        match rendered {
            Ok(()) => String::from_utf8(text.0).map_err(|e| refused(e.to_string())),
            Err(e) if e.kind() == ErrorKind::WriteFailure => {
                Err(refused(format!("it writes more than {MAX_TEXT} bytes")))
            }
            Err(e) => Err(refused(e.to_string())),
        }
    }
}

/// The environment with a template, or why there is none.
fn compiled(
    mut environment: Environment<'static>,
    source: String,
) -> Result<Environment<'static>, String> {
    // minijinja calls itself at every operator, so the stack has room for a source of nothing else.
    let stack = STACK + STACK_PER_BYTE * source.len();
    let compile = move || match environment.add_template_owned(NAME, source) {
        Ok(()) => Ok(environment),
        Err(e) => Err(e.to_string()),
    };
    let thread = thread::Builder::new().stack_size(stack).spawn(compile);
    let done = thread.map_err(|e| e.to_string())?.join();
    done.unwrap_or_else(|_| Err("it cannot be compiled".into()))
}

fn special_token(fields: &Fields<'_>, key: &str) -> Result<String> {
    let Some(token) = fields.get(key) else {
        return Ok(String::new());
    };
    let text = token.as_str().or_else(|| token.get("content")?.as_str());
    text.map(str::to_owned)
        .ok_or_else(|| fields.wrong(key, token, "text, or its content"))
}
