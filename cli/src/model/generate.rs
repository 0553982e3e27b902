//! `generate`: continues a prompt.

use super::{ModelArgs, Sequence, recipe};
use crate::{
    device,
    error::{Error, Result},
    interrupt, note, out, progress,
};
use lacuna_llm::{Checkpoint, Message, Tokenizer, sampling::Sampling};
use std::time::Instant;

#[derive(clap::Args)]
pub struct Args {
    #[command(flatten)]
    model: ModelArgs,
    /// Text to continue
    #[arg(short, long, value_name = "TEXT")]
    prompt: String,
    /// Puts the prompt into the checkpoint's chat template as a user's message
    #[arg(long)]
    chat: bool,
    /// Most tokens to generate
    #[arg(short = 'n', long, value_name = "N", default_value_t = 128)]
    max_tokens: usize,
    /// Divides logits; 0 always takes the most probable token
    #[arg(
        long,
        value_name = "T",
        default_value_t = 0.0,
        allow_negative_numbers = true
    )]
    temperature: f32,
    /// Samples from only this many of the most probable tokens; 0 for all
    #[arg(long, value_name = "K", default_value_t = 0)]
    top_k: usize,
    /// Samples from only the most probable tokens that together have this probability
    #[arg(
        long,
        value_name = "P",
        default_value_t = 1.0,
        allow_negative_numbers = true
    )]
    top_p: f32,
    /// Seed of the random draws
    #[arg(long, default_value_t = 0)]
    seed: u64,
    /// Tokens of context: the prompt and all of the answer but its last token [default: as many as
    /// they need]
    #[arg(long, value_name = "N")]
    ctx: Option<usize>,
}

pub fn run(args: &Args, device: &device::Args) -> Result<()> {
    let sampling = Sampling {
        temperature: args.temperature,
        top_k: args.top_k,
        top_p: args.top_p,
        seed: args.seed,
    };
    sampling.check()?;
    let checkpoint = args.model.reading.model(&args.model.model)?;
    let config = checkpoint.config();
    let tokenizer = checkpoint.tokenizer()?;
    let prompt = prompt(args, &checkpoint, &tokenizer)?;
    if prompt.is_empty() {
        return Err(lacuna_llm::Error::Empty.into());
    }
    let needed = prompt.len().saturating_add(args.max_tokens);
    let context = args.ctx.unwrap_or(needed.min(config.max_positions));
    if prompt.len() > context {
        return Err(lacuna_llm::Error::Context {
            tokens: prompt.len(),
            limit: context,
        }
        .into());
    }
    let recipe = recipe(args.model.format.as_deref())?;
    let thresholds = args.model.run.thresholds(checkpoint.config())?;
    let mut sequence = Sequence::open(
        &args.model.run,
        &checkpoint,
        &recipe,
        thresholds.as_ref(),
        context,
        device,
    )?;

    let begin = Instant::now();
    let bar = progress::bar(prompt.len());
    sequence.prefill(&prompt, &mut |done| bar.set_position(done as u64))?;
    bar.finish_and_clear();
    let mut stream = if args.chat {
        tokenizer.streamer()
    } else {
        out::write(&args.prompt)?;
        tokenizer.streamer_after(&prompt)
    };
    let (mut count, mut first, mut ended) = (0, None, false);
    // The last token is printed but not fed back, so the cache may already be full.
    let room = (context - prompt.len() + 1).min(args.max_tokens);
    while count < room {
        interrupt::check()?;
        let id = sequence.next_token(&sampling)?;
        first.get_or_insert_with(|| begin.elapsed());
        count += 1;
        ended = config.eos.contains(&id);
        if ended {
            break;
        }
        out::write(&stream.push(id))?;
    }
    let total = begin.elapsed();
    out::write(&(stream.finish() + "\n"))?;

    if !ended && count < args.max_tokens {
        let most = config.max_positions;
        note!(
            "stopped after {count} tokens: the context of {context} is full (--ctx, at most {most})"
        );
    }
    let Some(first) = first else { return Ok(()) };
    let seconds = total.saturating_sub(first).as_secs_f64();
    let decoded = count - 1;
    let rate = |n: usize, s: f64| if s > 0.0 { n as f64 / s } else { 0.0 };
    note!("{}", sequence.adapter());
    note!(
        "first token after {:.3} s (prompt tokens: {}; shaders that were not cached were compiled)",
        first.as_secs_f64(),
        prompt.len()
    );
    note!(
        "decode {:.2} tokens/s ({decoded} tokens)",
        rate(decoded, seconds)
    );
    if let Sequence::Gpu(decoder) = sequence
        && decoded > 0
    {
        let bytes = decoder.model().bytes_per_token() as f64;
        note!(
            "{:.1} MB of weights a token, {:.2} GB/s",
            bytes / 1e6,
            bytes * rate(decoded, seconds) / 1e9
        );
    }
    Ok(())
}

fn prompt(args: &Args, checkpoint: &Checkpoint, tokenizer: &Tokenizer) -> Result<Vec<u32>> {
    if args.chat {
        let Some(template) = checkpoint.chat_template()? else {
            return Err(Error::Input("the checkpoint has no chat template".into()));
        };
        let text = template.render(&[Message::new("user", &args.prompt)], true)?;
        return Ok(tokenizer.encode_special(&text)?);
    }
    let bos = tokenizer.bos().filter(|_| tokenizer.add_bos());
    let text = tokenizer.encode(&args.prompt)?;
    Ok(bos.into_iter().chain(text).collect())
}
