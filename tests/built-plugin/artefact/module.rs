//! A WebAssembly module, as far as it matters who calls whom, and what traps.

use built_plugin_tests::Built;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use wasmparser::{DataKind, ElementItems, ExternalKind, Operator, Parser, Payload, TypeRef};

/// An index into the functions of a module, imports first.
pub type Id = usize;

/// A function of the module's own, or an import.
#[derive(Default)]
pub struct Function {
    /// As its author wrote it, without hashes.
    pub name: String,
    pub calls: BTreeSet<Id>,
    /// The types of which it calls functions through the table.
    indirect: BTreeSet<u32>,
    /// Where it traps, or calls what never returns.
    pub traps: Vec<Trap>,
    /// What it takes from the stack in linear memory, in bytes. The stack's pointer is global 0.
    pub frame: u64,
}

/// A place that does not go on.
pub struct Trap {
    pub kind: Kind,
    /// The constants right before it: what a panic is told.
    pub constants: Vec<u32>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A call of what never returns.
    Call(Id),
    /// A division by what is no constant, or by one that can trap.
    Division,
    /// A number with a fraction made whole, where that does not saturate.
    Conversion,
    Unreachable,
}

pub struct Module {
    pub functions: Vec<Function>,
    pub imports: usize,
    pub exports: BTreeMap<String, Id>,
    /// What memory holds at the start, by address.
    data: Vec<(u32, Vec<u8>)>,
    /// What a call through the table can reach, by type: every function of that type in it.
    targets: HashMap<u32, BTreeSet<Id>>,
}

impl Module {
    /// `ends` are the names of functions that never return.
    pub fn read(built: &Built, ends: impl Fn(&str) -> bool) -> Self {
        let mut module = Self {
            functions: Vec::new(),
            imports: 0,
            exports: BTreeMap::new(),
            data: Vec::new(),
            targets: HashMap::new(),
        };
        let mut types = Vec::new();
        let mut table = Vec::new();
        let mut bodies = Vec::new();
        for payload in Parser::new(0).parse_all(&built.bytes) {
            match payload.expect("a valid module") {
                Payload::ImportSection(imports) => {
                    for import in imports {
                        let import = import.expect("an import");
                        if let TypeRef::Func(of_type) = import.ty {
                            types.push(of_type);
                            module.functions.push(Function { name: import.name.into(), ..Function::default() });
                        }
                    }
                    module.imports = types.len();
                }
                Payload::FunctionSection(functions) => {
                    for of_type in functions {
                        types.push(of_type.expect("a type"));
                        module.functions.push(Function::default());
                    }
                }
                Payload::ExportSection(exports) => {
                    for export in exports {
                        let export = export.expect("an export");
                        if export.kind == ExternalKind::Func {
                            module.exports.insert(export.name.into(), export.index as Id);
                        }
                    }
                }
                Payload::StartSection { .. } => panic!("a function that runs by itself"),
                Payload::ElementSection(elements) => {
                    for element in elements {
                        match element.expect("an element").items {
                            ElementItems::Functions(ids) => {
                                table.extend(ids.into_iter().map(|id| id.expect("an id") as Id))
                            }
                            ElementItems::Expressions(..) => panic!("a table of expressions"),
                        }
                    }
                }
                Payload::DataSection(segments) => {
                    for segment in segments {
                        let segment = segment.expect("a segment");
                        if let DataKind::Active { offset_expr, .. } = segment.kind
                            && let Ok(Operator::I32Const { value }) = offset_expr.get_operators_reader().read()
                        {
                            module.data.push((value.cast_unsigned(), segment.data.into()));
                        }
                    }
                }
                Payload::CodeSectionEntry(body) => {
                    let operators = body.get_operators_reader().expect("a body").into_iter();
                    bodies.push(operators.map(|operator| operator.expect("an operator")).collect::<Vec<_>>());
                }
                _ => {}
            }
        }
        for (id, name) in &built.names {
            if *id as Id >= module.imports {
                module.functions[*id as Id].name = name.clone();
            }
        }
        let ends: BTreeSet<Id> = (0..module.functions.len()).filter(|id| ends(module.name(*id))).collect();
        for (function, body) in module.functions.iter_mut().skip(module.imports).zip(&bodies) {
            function.read(body, &ends);
        }
        for id in table {
            module.targets.entry(types[id]).or_default().insert(id);
        }
        module
    }

    /// The source file and line that a constant points to, if it is the `core::panic::Location` of a panic.
    pub fn location(&self, address: u32) -> Option<(String, u32)> {
        let word = |at: u32| Some(u32::from_le_bytes(self.data(address.checked_add(at)?, 4)?.try_into().ok()?));
        let (file, length, line) = (word(0)?, word(4)?, word(8)?);
        let file = std::str::from_utf8(self.data(file, length)?).ok()?;
        file.ends_with(".rs").then(|| (file.into(), line))
    }

    /// The source of every `core::panic::Location` in memory, whoever is given it.
    pub fn sources(&self) -> BTreeSet<String> {
        let addresses = |(start, bytes): &(u32, Vec<u8>)| {
            (start.next_multiple_of(4)..start + u32::try_from(bytes.len()).expect("32 bits")).step_by(4)
        };
        self.data.iter().flat_map(addresses).filter_map(|at| self.location(at)).map(|(file, _)| file).collect()
    }

    fn data(&self, address: u32, length: u32) -> Option<&[u8]> {
        self.data.iter().find_map(|(start, bytes)| {
            let from = address.checked_sub(*start)? as usize;
            bytes.get(from..from.checked_add(length as usize)?)
        })
    }

    pub fn name(&self, id: Id) -> &str {
        &self.functions[id].name
    }

    /// What a function can call: directly, or through the table, where whatever has the type is taken for called.
    pub fn calls(&self, id: Id) -> BTreeSet<Id> {
        let function = &self.functions[id];
        let indirect = function.indirect.iter().filter_map(|of_type| self.targets.get(of_type)).flatten();
        function.calls.iter().chain(indirect).copied().collect()
    }

    /// What can run when `from` is called, but not beyond functions that are `left_out`.
    pub fn reachable(&self, from: Id, left_out: impl Fn(&str) -> bool) -> BTreeSet<Id> {
        let mut reached = BTreeSet::from([from]);
        let mut open = vec![from];
        while let Some(id) = open.pop() {
            open.extend(
                self.calls(id).into_iter().filter(|called| !left_out(self.name(*called)) && reached.insert(*called)),
            );
        }
        reached
    }
}

/// A block that is open, and whether its end can be reached.
struct Block {
    shape: Shape,
    /// Whether its beginning can be reached.
    begun: bool,
    /// Whether its end can be reached otherwise than by what stands before it.
    left: bool,
}

#[derive(PartialEq)]
enum Shape {
    Block,
    Loop,
    /// As long as there is no else, the end is reached past it.
    If,
}

impl Block {
    fn begin(shape: Shape, begun: bool) -> Self {
        Self { shape, begun, left: false }
    }
}

impl Function {
    /// Notes what matters of the body. What no path through it leads to does not: compilers end endless loops, and calls that never
    /// return, with a trap.
    fn read(&mut self, operators: &[Operator<'_>], ends: &BTreeSet<Id>) {
        let mut blocks = Vec::<Block>::new();
        let mut live = true;
        for (at, operator) in operators.iter().enumerate() {
            let before = at.checked_sub(1).map(|before| &operators[before]);
            let mut branch = |depth: u32| {
                // Beyond the outermost block is the function's own.
                if let Some(at) = blocks.len().checked_sub(depth as usize + 1) {
                    blocks[at].left |= live && blocks[at].shape != Shape::Loop;
                }
            };
            match operator {
                Operator::Block { .. } => blocks.push(Block::begin(Shape::Block, live)),
                Operator::Loop { .. } => blocks.push(Block::begin(Shape::Loop, live)),
                Operator::If { .. } => blocks.push(Block::begin(Shape::If, live)),
                Operator::Else => {
                    let block = blocks.last_mut().expect("an if");
                    (block.shape, block.left) = (Shape::Block, block.left || live);
                    live = block.begun;
                }
                Operator::End => {
                    live |= blocks.pop().is_some_and(|block| block.left || block.begun && block.shape == Shape::If);
                }
                Operator::Br { relative_depth } => {
                    branch(*relative_depth);
                    live = false;
                }
                Operator::BrIf { relative_depth } => branch(*relative_depth),
                Operator::BrTable { targets } => {
                    targets.targets().map(|depth| depth.expect("a depth")).chain([targets.default()]).for_each(branch);
                    live = false;
                }
                Operator::Return => live = false,
                Operator::Unreachable => {
                    if live {
                        self.trap(Kind::Unreachable, &operators[..at]);
                    }
                    live = false;
                }
                Operator::Call { function_index } if live => {
                    let called = *function_index as Id;
                    self.calls.insert(called);
                    if ends.contains(&called) {
                        self.trap(Kind::Call(called), &operators[..at]);
                        live = false;
                    }
                }
                Operator::CallIndirect { type_index, .. } if live => {
                    self.indirect.insert(*type_index);
                }
                Operator::I32DivS
                | Operator::I32DivU
                | Operator::I32RemS
                | Operator::I32RemU
                | Operator::I64DivS
                | Operator::I64DivU
                | Operator::I64RemS
                | Operator::I64RemU => {
                    let divisor = match before {
                        Some(Operator::I32Const { value }) => i64::from(*value),
                        Some(Operator::I64Const { value }) => *value,
                        _ => 0,
                    };
                    // Divided by -1, the least number overflows.
                    if live && matches!(divisor, 0 | -1) {
                        self.trap(Kind::Division, &operators[..at]);
                    }
                }
                // `global.get $stack; i32.const N; i32.sub`, or the same by adding what is negative. At the end the frame is given back
                // by adding it.
                Operator::I32Sub | Operator::I32Add => {
                    let first = at.checked_sub(2).map(|at| &operators[at]);
                    if let (Some(Operator::GlobalGet { global_index: 0 }), Some(Operator::I32Const { value })) =
                        (first, before)
                    {
                        let taken =
                            if matches!(operator, Operator::I32Sub) { i64::from(*value) } else { -i64::from(*value) };
                        self.frame += u64::try_from(taken).unwrap_or(0);
                    }
                }
                Operator::GlobalSet { global_index: 0 } => {
                    assert_ne!(self.frame, 0, "{}: a frame of unknown size", self.name)
                }
                Operator::I32TruncF32S
                | Operator::I32TruncF32U
                | Operator::I32TruncF64S
                | Operator::I32TruncF64U
                | Operator::I64TruncF32S
                | Operator::I64TruncF32U
                | Operator::I64TruncF64S
                | Operator::I64TruncF64U
                    if live =>
                {
                    self.trap(Kind::Conversion, &operators[..at]);
                }
                _ => {}
            }
        }
    }

    fn trap(&mut self, kind: Kind, operators: &[Operator<'_>]) {
        let other = |operator: &&Operator<'_>| {
            matches!(operator, Operator::End | Operator::Call { .. } | Operator::CallIndirect { .. })
        };
        let near = operators.iter().rev().take_while(|operator| !other(operator)).take(16);
        let constants = near.filter_map(|operator| match operator {
            Operator::I32Const { value } => Some(value.cast_unsigned()),
            _ => None,
        });
        self.traps.push(Trap { kind, constants: constants.collect() });
    }
}
