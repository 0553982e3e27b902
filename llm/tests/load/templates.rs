//! Chat templates.

use crate::files::{Folder, Gguf, Meta, assert_names, config, shapes};
use lacuna_llm::{ChatTemplate, Checkpoint, Message};
use serde_json::json;

const TURNS: &str = "{{ bos_token }}
{%- for message in messages %}
    {%- if message['role'] == 'system' and not loop.first %}
        {{- raise_exception('the system speaks first') }}
    {%- endif %}
    {{- '<' + message.role.upper() + '>' + message['content'].strip() + eos_token }}
{%- endfor %}
{%- if add_generation_prompt and tools is none %}
    {{- '<MODEL>' }}
{%- endif %}
";

fn messages() -> [Message; 2] {
    [
        Message::new("system", " be brief "),
        Message::new("user", "hi"),
    ]
}

fn new(source: &str) -> Result<ChatTemplate, lacuna_llm::Error> {
    ChatTemplate::new("x.jinja", source, "<s>", "</s>")
}

#[test]
fn conversations_are_written_out() {
    let template = new(TURNS).unwrap();
    let text = template.render(&messages(), true).unwrap();
    assert_eq!(text, "<s><SYSTEM>be brief</s><USER>hi</s><MODEL>");
    let text = template.render(&messages()[1..], false).unwrap();
    assert_eq!(text, "<s><USER>hi</s>");
}

#[test]
fn templates_use_what_python_has() {
    let source = "{% set ns = namespace(n=0) %}{% for m in messages[1:] %}\
        {% if m.content.startswith('x') %}{% break %}{% endif %}\
        {% set ns.n = ns.n + 1 %}{% endfor %}{{ ns.n }}{{ messages[0] | tojson }}\
        {{ 'a,b'.split(',')[-1] }}{{ messages | length }}";
    let text = new(source).unwrap().render(&messages(), false).unwrap();
    assert!(text.starts_with("1{") && text.ends_with("b2"), "{text}");
    let today = new("{{ strftime_now('%Y-%m-%d') }}").unwrap();
    let today = today.render(&[], false).unwrap();
    assert!(today.len() == 10 && today.starts_with('2'), "{today}");
    let none = new("{{ strftime_now('%!') }}").unwrap();
    assert_names(none.render(&[], false), &["strftime", "!"]);
}

#[test]
fn refusals_and_defects_are_errors() {
    let template = new(TURNS).unwrap();
    let mut wrong = messages();
    wrong.reverse();
    assert_names(
        template.render(&wrong, true),
        &["x.jinja", "the system speaks first"],
    );
    assert_names(new("{% if %}"), &["x.jinja"]);
    assert_names(
        new("{{ nothing() }}").unwrap().render(&[], true),
        &["nothing"],
    );
    let forever =
        "{% for a in range(9999) %}{% for b in range(9999) %}{{ b }}{% endfor %}{% endfor %}";
    assert_names(new(forever).unwrap().render(&[], true), &["fuel"]);
}

#[test]
fn templates_are_found_in_folders_and_files() {
    let folder = Folder::new(&config("llama")).tensors(&shapes(false));
    let open = || Checkpoint::open(folder.path()).unwrap().chat_template();
    let render = || open().unwrap().unwrap().render(&messages(), true).unwrap();
    assert!(open().unwrap().is_none());
    let put = |json: serde_json::Value| {
        folder.put("tokenizer_config.json", json.to_string().as_bytes());
    };
    put(json!({ "bos_token": "<s>" }));
    assert!(open().unwrap().is_none());
    put(json!({ "bos_token": { "content": "B" }, "chat_template": "{{ bos_token }}1" }));
    assert_eq!(render(), "B1");
    put(json!({ "eos_token": "E", "chat_template": [
        { "name": "tools", "template": "2" },
        { "name": "default", "template": "{{ eos_token }}3" },
    ]}));
    assert_eq!(render(), "E3");
    put(json!({ "chat_template": [{ "name": "tools", "template": "2" }] }));
    assert_names(open(), &["chat_template", "default"]);
    put(json!({ "chat_template": "1", "bos_token": "C" }));
    folder.put("chat_template.jinja", b"{{ bos_token }}4");
    assert_eq!(render(), "C4");

    let mut file = Gguf::model("llama");
    file.set("tokenizer.chat_template", "{{ eos_token }}5".into());
    file.set(
        "tokenizer.ggml.tokens",
        Meta::Texts(vec!["a".into(), "Z".into()]),
    );
    file.set("tokenizer.ggml.eos_token_id", Meta::U32(1));
    let (_dir, path) = file.save();
    let template = Checkpoint::open(path)
        .unwrap()
        .chat_template()
        .unwrap()
        .unwrap();
    assert_eq!(template.render(&messages(), true).unwrap(), "Z5");
}
