//! A small writer of GGUF files, which also writes invalid ones.

use super::Folder;
use lacuna_io::{Error, GgufFile};

pub const U8: u32 = 0;
pub const I8: u32 = 1;
pub const U16: u32 = 2;
pub const U32: u32 = 4;
pub const I32: u32 = 5;
pub const F32: u32 = 6;
pub const BOOL: u32 = 7;
pub const TEXT: u32 = 8;
pub const ARRAY: u32 = 9;
pub const U64: u32 = 10;
pub const I64: u32 = 11;
pub const F64: u32 = 12;

/// A file under construction.
#[derive(Clone)]
pub struct Gguf {
    pub magic: [u8; 4],
    pub version: u32,
    pub alignment: usize,
    /// Added to the numbers of tensors and entries.
    pub lie: [u64; 2],
    pub entries: Vec<Vec<u8>>,
    pub tensors: Vec<Vec<u8>>,
    pub data: Vec<u8>,
}

/// A text as GGUF stores it.
pub fn text(text: impl AsRef<[u8]>) -> Vec<u8> {
    let text = text.as_ref();
    [&(text.len() as u64).to_le_bytes(), text].concat()
}

/// An array as GGUF stores it.
pub fn array(code: u32, len: u64, elements: &[u8]) -> Vec<u8> {
    [&code.to_le_bytes(), len.to_le_bytes().as_slice(), elements].concat()
}

impl Gguf {
    pub fn new() -> Self {
        Self {
            magic: *b"GGUF",
            version: 3,
            alignment: 32,
            lie: [0; 2],
            entries: Vec::new(),
            tensors: Vec::new(),
            data: Vec::new(),
        }
    }

    pub fn entry(mut self, key: &str, code: u32, value: &[u8]) -> Self {
        let entry = [&text(key), code.to_le_bytes().as_slice(), value].concat();
        self.entries.push(entry);
        self
    }

    /// Adds a tensor with its data. `dims` begins with the row length.
    pub fn tensor(mut self, name: &str, dims: &[u64], code: u32, data: &[u8]) -> Self {
        self.data
            .resize(self.data.len().next_multiple_of(self.alignment), 0);
        let offset = self.data.len() as u64;
        self.data.extend(data);
        self.info(name, dims, code, offset)
    }

    /// Adds an entry to the tensor table, without data.
    pub fn info(mut self, name: impl AsRef<[u8]>, dims: &[u64], code: u32, offset: u64) -> Self {
        let mut info = text(name);
        info.extend((dims.len() as u32).to_le_bytes());
        info.extend(dims.iter().flat_map(|d| d.to_le_bytes()));
        info.extend(code.to_le_bytes());
        info.extend(offset.to_le_bytes());
        self.tensors.push(info);
        self
    }

    fn header(&self) -> Vec<u8> {
        let mut bytes = self.magic.to_vec();
        bytes.extend(self.version.to_le_bytes());
        for (list, lie) in [&self.tensors, &self.entries].into_iter().zip(self.lie) {
            bytes.extend((list.len() as u64).wrapping_add(lie).to_le_bytes());
        }
        bytes.extend(self.entries.concat());
        bytes.extend(self.tensors.concat());
        bytes
    }

    pub fn data_start(&self) -> usize {
        self.header().len().next_multiple_of(self.alignment)
    }

    pub fn bytes(&self) -> Vec<u8> {
        let mut bytes = self.header();
        bytes.resize(self.data_start(), 0);
        bytes.extend(&self.data);
        bytes
    }

    pub fn open(&self) -> Result<GgufFile, Error> {
        let folder = Folder::new();
        // The handle outlives the folder.
        GgufFile::open(folder.put("x.gguf", &self.bytes()))
    }
}

/// A valid file with values of every kind and tensors of every readable type.
pub fn sample(version: u32) -> Gguf {
    let tokens = [text("<pad>"), text("é"), text("")].concat();
    let mut gguf = Gguf::new()
        .entry("general.architecture", TEXT, &text("gemma3"))
        .entry("general.alignment", U32, &64u32.to_le_bytes())
        .entry("u8", U8, &[200])
        .entry("i8", I8, &[0xff])
        .entry("u16", U16, &[0, 1])
        .entry("i16", 3, &[0, 0x80])
        .entry("i32", I32, &(-26i32).to_le_bytes())
        .entry("u64", U64, &u64::MAX.to_le_bytes())
        .entry("i64", I64, &(1i64 << 40).to_le_bytes())
        .entry("f32", F32, &1e-6f32.to_le_bytes())
        .entry("f64", F64, &0.1f64.to_le_bytes())
        .entry("bool", BOOL, &[1])
        .entry("tokens", ARRAY, &array(TEXT, 3, &tokens))
        .entry("types", ARRAY, &array(I32, 2, &[1, 0, 0, 0, 3, 0, 0, 0]))
        .entry("scores", ARRAY, &array(F32, 1, &0.5f32.to_le_bytes()))
        .entry("flags", ARRAY, &array(BOOL, 3, &[0, 1, 1]))
        .entry("none", ARRAY, &array(U64, 0, &[]));
    gguf.version = version;
    gguf.alignment = 64;
    for (i, (code, bytes, values)) in [
        (0, 4, 1),
        (1, 2, 1),
        (30, 2, 1),
        (2, 18, 32),
        (3, 20, 32),
        (6, 22, 32),
        (7, 24, 32),
        (8, 34, 32),
        (12, 144, 256),
        (13, 176, 256),
        (14, 210, 256),
        (23, 136, 256),
        (21, 110, 256),
        (10, 84, 256),
        (11, 110, 256),
    ]
    .into_iter()
    .enumerate()
    {
        // Three rows of one block.
        let data: Vec<u8> = (0..3 * bytes).map(|b| (b * 7 + i) as u8).collect();
        gguf = gguf.tensor(&format!("t{i}"), &[values, 3], code, &data);
    }
    gguf
}

/// Opens `bytes` and reads everything in it.
pub fn read_all(bytes: &[u8]) -> Result<(), Error> {
    let folder = Folder::new();
    let file = GgufFile::open(folder.put("x.gguf", bytes))?;
    for (key, value) in file.metadata().entries() {
        assert!(value.to_string().len() < 3000);
        file.metadata().get::<u32>(key).ok();
        file.metadata().get::<f32>(key).ok();
        file.metadata().get::<&str>(key).ok();
        file.metadata().get::<Vec<&str>>(key).ok();
        file.metadata().get::<Vec<i32>>(key).ok();
    }
    for tensor in file.tensors() {
        assert!(tensor.bytes <= bytes.len() as u64);
        if !tensor.ggml_type.is_readable() {
            file.read_f32(tensor.name).unwrap_err();
            continue;
        }
        let values = file.read_f32(tensor.name)?;
        assert_eq!(values.len(), tensor.rows() * tensor.cols());
        assert_eq!(file.read_values(tensor.name)?.len(), values.len());
    }
    Ok(())
}
