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

/// What `source` gives for the two messages.
#[track_caller]
fn shown(source: &str) -> String {
    let rendered = new(source).and_then(|template| template.render(&messages(), false));
    rendered.unwrap_or_else(|e| panic!("{source}: {e}"))
}

#[test]
fn loops_see_their_neighbours() {
    let source = "{% for m in messages %}{{ loop.previtem.role if loop.previtem }}<{{ m.role }}>\
        {{ loop.nextitem.role if loop.nextitem is defined }};{% endfor %}";
    assert_eq!(shown(source), "<system>user;system<user>;");
}

#[test]
fn blocks_of_generation_render_their_body() {
    let source = "{% for m in messages -%} \n {%- generation -%} \n{{ m.content.strip() }}\n\
        {%- endgeneration %}.{% endfor %}";
    assert_eq!(shown(source), "be brief.hi.");
    assert_eq!(shown("a {% generation %}\nb {%endgeneration%} c"), "a b  c");
    assert_eq!(
        shown("{% generation %}{{ 'generation' }}{% endgeneration %}"),
        "generation"
    );
    // As in transformers, whose blocks are macros.
    assert_eq!(
        shown("{% set a = 1 %}{% generation %}{% set a = 2 %}{% endgeneration %}{{ a }}"),
        "1"
    );
    assert_names(new("{% generation %}"), &["x.jinja"]);
}

#[test]
fn every_end_of_a_line_is_a_newline() {
    assert_eq!(shown("a\r\nb{{ 'x' }}\r\n"), "a\nbx");
    assert_eq!(shown("{% if true %}\r\nx\r{% endif %}\r\nz"), "x\nz");
}

#[test]
fn lines_of_blocks_alone_leave_nothing() {
    let source = "a\n  {% if true %}\n b\n\t{% endif %}\nc";
    assert_eq!(shown(source), "a\n b\nc");
}

/// The expected texts are those of Python 3.
#[test]
fn json_is_that_of_python() {
    for (template, expected) in [
        (
            "messages",
            r#"[{"role": "system", "content": " be brief "}, {"role": "user", "content": "hi"}]"#,
        ),
        ("'<a&b>é\u{1F600}\\n\"'", "\"<a&b>é\u{1F600}\\n\\\"\""),
        (
            "[1, 1.0, 1e16, 1.5e-7, true, none, [], {}]",
            "[1, 1.0, 1e+16, 1.5e-07, true, null, [], {}]",
        ),
        ("{'b': 1, 'a': {2: none}}", r#"{"b": 1, "a": {"2": null}}"#),
    ] {
        assert_eq!(shown(&format!("{{{{ {template} | tojson }}}}")), expected);
    }
    for (options, expected) in [
        (
            "indent=2",
            "{\n  \"b\": [\n    1,\n    \"é\u{1F600}\"\n  ],\n  \"a\": {}\n}",
        ),
        (
            "separators=(',', ':')",
            "{\"b\":[1,\"é\u{1F600}\"],\"a\":{}}",
        ),
        ("sort_keys=true", "{\"a\": {}, \"b\": [1, \"é\u{1F600}\"]}"),
        (
            "ensure_ascii=True, indent=none",
            r#"{"b": [1, "\u00e9\ud83d\ude00"], "a": {}}"#,
        ),
    ] {
        let value = "{'b': [1, 'é\u{1F600}'], 'a': {}}";
        assert_eq!(
            shown(&format!("{{{{ {value} | tojson({options}) }}}}")),
            expected
        );
    }
    let refused =
        |source: &str, part| assert_names(new(source).unwrap().render(&[], false), &[part]);
    refused("{{ 1 | tojson(width=3) }}", "width");
    refused("{{ 1 | tojson(separators=':') }}", "separators");
    refused("{{ nothing | tojson }}", "undefined");
    let deep =
        "{% set ns = namespace(x=1) %}{% for i in range(200) %}{% set ns.x = [ns.x] %}{% endfor %}";
    refused(&format!("{deep}{{{{ ns.x | tojson }}}}"), "deep");
}

#[test]
fn maps_keep_their_order() {
    assert_eq!(
        shown("{% for k, v in messages[1].items() %}{{ k }}={{ v }} {% endfor %}"),
        "role=user content=hi "
    );
    assert_eq!(shown("{{ {'b': 1, 'a': 2}.keys() | join }}"), "ba");
}

/// The expected texts are those of Python 3.
#[test]
fn texts_have_the_methods_of_python() {
    for (call, expected) in [
        ("'a,b,c'.rsplit(',', 1)", r#"["a,b", "c"]"#),
        ("'a,b,c'.rsplit(',')", r#"["a", "b", "c"]"#),
        ("' a  b '.rsplit()", r#"["a", "b"]"#),
        ("' a  b c '.rsplit(none, 1)", r#"[" a  b", "c"]"#),
        ("'aab'.removeprefix('a')", r#""ab""#),
        ("'abb'.removesuffix('b')", r#""ab""#),
        ("'abb'.removesuffix('x')", r#""abb""#),
        ("'k=v=w'.partition('=')", r#"["k", "=", "v=w"]"#),
        ("'k'.partition('=')", r#"["k", "", ""]"#),
        ("'A'.lower()", r#""a""#),
    ] {
        assert_eq!(
            shown(&format!("{{{{ {call} | tojson }}}}")),
            expected,
            "{call}"
        );
    }
    assert_names(
        new("{{ 'a'.partition('') }}").unwrap().render(&[], false),
        &["separator"],
    );
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
fn what_a_number_makes_large_is_refused() {
    assert_eq!(shown("{{ 'aé'.count('') }} {{ 'aba'.count('a') }}"), "3 2");
    assert_eq!(
        shown("{{ 'a\nb'|indent(2) }}{{ 'a\nb'|indent(width=1) }}"),
        "a\n  ba\n b"
    );
    assert_eq!(
        shown("{{ [1, 2, 3]|slice(2)|list }}{{ [1, 2]|batch(3, 0)|list }}"),
        "[[1, 2], [3]][[1, 2, 0]]"
    );
    assert_eq!(
        shown("{{ '%03d %.2f'|format(7, 0.5) }}{{ '{:>4}'.format(1) }}"),
        "007 0.50   1"
    );
    let nested = "{% set ns = namespace(a=['x' * 10000]) %}\
        {% for i in range(60) %}{% set ns.a = [ns.a, ns.a] %}{% endfor %}";
    for (source, reason) in [
        ("{{ [1, 2]|slice(10**12) }}", "too many"),
        ("{{ [1, 2]|batch(10**12, 'x') }}", "too many"),
        ("{{ 'a\nb'|indent(10**9) }}", "too many"),
        ("{{ 'a\nb'|indent(width=10**9) }}", "too many"),
        ("{{ '%1000000000d'|format(1) }}", "too large"),
        ("{{ '%.70000f'|format(1.5) }}", "too large"),
        ("{{ '{:>10000000000}'.format(1) }}", "too large"),
        ("{{ '{:.70000f}'.format(1.5) }}", "too large"),
        (
            &format!("{nested}{{{{ ns.a|tojson }}}}"),
            "tojson: more than",
        ),
        (&format!("{nested}{{{{ ns.a }}}}"), "writes more than"),
    ] {
        let rendered = new(source).unwrap().render(&messages(), false);
        assert_names(rendered, &["x.jinja", reason]);
    }
}

#[test]
fn operators_may_be_many() {
    let rendered = |source: String| new(&source).and_then(|t| t.render(&messages(), false));
    let ones = format!("{{{{ 1{} }}}}", "+1".repeat(60_000));
    assert_eq!(rendered(ones).unwrap(), "60001");
    let nots = format!("{{{{ {}1 }}}}", "not ".repeat(30_000));
    assert_eq!(rendered(nots).unwrap(), "True");
    let named = format!("{{{{ bos_token|length{} }}}}", "+1".repeat(2_000));
    assert_eq!(rendered(named).unwrap(), "2003");
    // Fails or not, but does not end the program.
    for unary in ["-", "- ", "+"] {
        let _ = rendered(format!("{{{{ {}1 }}}}", unary.repeat(60_000)));
    }
    assert_names(rendered("x".repeat(1 << 18)), &["x.jinja", "limit"]);
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
