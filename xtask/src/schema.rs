//! The table from which the JSON gateway reads and writes messages: names, numbers and kinds of all fields.

use core::fmt::Write as _;
use std::collections::BTreeMap;
use std::io;

use prost_types::field_descriptor_proto::{Label, Type};
use prost_types::{DescriptorProto, EnumDescriptorProto, FieldDescriptorProto, FileDescriptorSet};

/// Packages of which the gateway has methods.
const PACKAGES: [&str; 5] = ["etcdserverpb", "mvccpb", "authpb", "v3lockpb", "v3electionpb"];

/// The table as Rust.
pub(crate) fn generate(descriptors: &FileDescriptorSet) -> io::Result<String> {
    let mut table = Table::default();
    for file in &descriptors.file {
        if !PACKAGES.contains(&file.package()) {
            continue;
        }
        let scope = format!(".{}", file.package());
        for kind in &file.enum_type {
            table.add_enum(&scope, kind)?;
        }
        for message in &file.message_type {
            table.add_message(&scope, message)?;
        }
        for service in &file.service {
            for method in &service.method {
                let name = format!("{}.{}/{}", file.package(), service.name(), method.name());
                let (input, output) =
                    (constant(method.input_type()), constant(method.output_type()));
                let row = format!("(\"{name}\", &{input}, &{output}),\n");
                table.methods.push_str(&row);
                table.roots.extend([input, output]);
            }
        }
    }
    let mut out = "//! What messages are made of, for the JSON gateway.\n//!\n//! @generated from `engine/proto` by \
                   `cargo xtask proto`.\n\nuse super::descriptor::{Enum, Field, Kind, Message};\n\n"
        .to_owned();
    for (text, _) in table.reachable().into_values() {
        out.push_str(text);
    }
    write!(
        out,
        "/// Methods with what they take and give.\npub static METHODS: &[(&str, &Message, &Message)] = &[\n{}];\n",
        table.methods
    )
    .map_err(io::Error::other)?;
    Ok(out)
}

#[derive(Default)]
struct Table {
    /// Declarations by the names of their constants, and the constants that they name.
    items: BTreeMap<String, (String, Vec<String>)>,
    methods: String,
    /// The constants that methods name.
    roots: Vec<String>,
}

impl Table {
    /// What methods need; some messages are only stored.
    fn reachable(&self) -> BTreeMap<&str, &(String, Vec<String>)> {
        let mut found = BTreeMap::new();
        let mut left: Vec<&str> = self.roots.iter().map(String::as_str).collect();
        while let Some(name) = left.pop() {
            if let Some(item) = self.items.get(name)
                && found.insert(name, item).is_none()
            {
                left.extend(item.1.iter().map(String::as_str));
            }
        }
        found
    }

    fn add(&mut self, name: &str, text: String, names: Vec<String>) -> io::Result<()> {
        match self.items.insert(constant(name), (text, names)) {
            None => Ok(()),
            Some(_) => Err(io::Error::other(format!("two things have the name of {name}"))),
        }
    }

    fn add_enum(&mut self, scope: &str, kind: &EnumDescriptorProto) -> io::Result<()> {
        let name = format!("{scope}.{}", kind.name());
        let mut text = format!("static {}: Enum = Enum(&[", constant(&name));
        for value in &kind.value {
            write!(text, "(\"{}\", {}),", value.name(), value.number())
                .map_err(io::Error::other)?;
        }
        self.add(&name, text + "]);\n\n", Vec::new())
    }

    fn add_message(&mut self, scope: &str, message: &DescriptorProto) -> io::Result<()> {
        let name = format!("{scope}.{}", message.name());
        for kind in &message.enum_type {
            self.add_enum(&name, kind)?;
        }
        let mut text = format!("static {}: Message = Message(&[", constant(&name));
        for field in &message.field {
            text.push_str(&row(field)?);
        }
        let names = message.field.iter().map(|field| constant(field.type_name())).collect();
        self.add(&name, text + "]);\n\n", names)
    }
}

/// Types that etcd's messages have, beside enums and messages.
const PLAIN: [(Type, &str); 6] = [
    (Type::Bool, "Bool"),
    (Type::Int64, "Int64"),
    (Type::Uint64, "Uint64"),
    (Type::Uint32, "Uint32"),
    (Type::String, "String"),
    (Type::Bytes, "Bytes"),
];

fn row(field: &FieldDescriptorProto) -> io::Result<String> {
    let of = constant(field.type_name());
    let kind = match PLAIN.iter().find(|(plain, _)| *plain == field.r#type()) {
        Some((_, name)) => (*name).to_owned(),
        None if field.r#type() == Type::Enum => format!("Enum(&{of})"),
        None if field.r#type() == Type::Message => format!("Message(&{of})"),
        None => return Err(io::Error::other(format!("no field is a {:?} yet", field.r#type()))),
    };
    let count = if field.label() == Label::Repeated { "many" } else { "one" };
    let (name, json_name) = (field.name(), field.json_name());
    Ok(format!("Field::{count}({}, \"{name}\", \"{json_name}\", Kind::{kind}),", field.number()))
}

/// The constant for `.etcdserverpb.RangeRequest.SortOrder`: `RANGE_REQUEST_SORT_ORDER`.
fn constant(name: &str) -> String {
    let name = name.trim_start_matches('.').split_once('.').map_or("", |(_, name)| name);
    let mut out = String::new();
    let mut before = '.';
    for letter in name.chars() {
        let begins_word = letter.is_ascii_uppercase() && before.is_ascii_lowercase();
        if begins_word || letter == '.' {
            out.push('_');
        }
        if letter != '.' {
            out.push(letter.to_ascii_uppercase());
        }
        before = letter;
    }
    out
}
