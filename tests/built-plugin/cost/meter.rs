//! Puts a meter into a module: every instruction is counted, and the host is told which function begins and returns.

use wasm_encoder::reencode::{Error, Reencode, utils};
use wasm_encoder::{
    BlockType, CodeSection, ConstExpr, EntityType, Function, GlobalSection, GlobalType, ImportSection, Instruction,
    Module, TypeSection, ValType,
};
use wasmparser::{FunctionBody, Operator, Parser, Payload, TypeRef};

/// The module of the meter's imports.
pub const MODULE: &str = "meter";
/// `(function, count so far)`: it begins.
pub const ENTER: &str = "enter";
/// `(function, count so far)`: it returns.
pub const LEAVE: &str = "leave";
/// `(bytes) -> bytes`: so many are copied, or filled, in one instruction.
pub const COPIES: &str = "copies";

/// How many imports the meter has. They come after the module's own.
const IMPORTS: u32 = 3;

/// `module`, metered. Functions go by their index in `module`. What only delimits blocks is no instruction.
pub fn metered(module: &[u8]) -> Vec<u8> {
    let mut meter = Meter::read(module);
    let mut out = Module::new();
    meter.parse_core_module(&mut out, Parser::new(0), module).expect("a module that can be written anew");
    out.finish()
}

#[derive(Default)]
struct Meter {
    types: u32,
    imports: u32,
    globals: u32,
    /// What each of the module's own functions returns.
    results: Vec<BlockType>,
    /// How many functions were written.
    written: u32,
}

impl Meter {
    fn read(module: &[u8]) -> Self {
        let mut meter = Self::default();
        let mut types = Vec::new();
        for payload in Parser::new(0).parse_all(module) {
            match payload.expect("a valid module") {
                Payload::TypeSection(section) => {
                    types = section.into_iter_err_on_gc_types().map(|of_type| of_type.expect("a type")).collect();
                    meter.types = count(types.len());
                }
                Payload::ImportSection(section) => {
                    let functions = section
                        .into_iter()
                        .filter(|import| matches!(import.as_ref().expect("an import").ty, TypeRef::Func(_)));
                    meter.imports = count(functions.count());
                }
                Payload::FunctionSection(section) => {
                    for of_type in section {
                        let results = types[of_type.expect("a type") as usize].results();
                        let block = match *results {
                            [] => BlockType::Empty,
                            [only] => BlockType::Result(meter.val_type(only).expect("a type of values")),
                            _ => panic!("a function that returns several values"),
                        };
                        meter.results.push(block);
                    }
                }
                Payload::GlobalSection(section) => meter.globals = section.count(),
                _ => {}
            }
        }
        meter
    }

    fn tell(&self, function: &mut Function, id: u32, import: u32) {
        function.instruction(&Instruction::I32Const(id.cast_signed()));
        function.instruction(&Instruction::GlobalGet(self.globals));
        function.instruction(&Instruction::Call(self.imports + import));
    }
}

fn count(length: usize) -> u32 {
    length.try_into().expect("no more than there can be")
}

impl Reencode for Meter {
    type Error = std::convert::Infallible;

    fn function_index(&mut self, function: u32) -> Result<u32, Error<Self::Error>> {
        Ok(if function < self.imports { function } else { function + IMPORTS })
    }

    fn parse_type_section(
        &mut self,
        types: &mut TypeSection,
        section: wasmparser::TypeSectionReader<'_>,
    ) -> Result<(), Error<Self::Error>> {
        utils::parse_type_section(self, types, section)?;
        types.ty().function([ValType::I32, ValType::I64], []);
        types.ty().function([ValType::I32], [ValType::I32]);
        Ok(())
    }

    fn parse_import_section(
        &mut self,
        imports: &mut ImportSection,
        section: wasmparser::ImportSectionReader<'_>,
    ) -> Result<(), Error<Self::Error>> {
        utils::parse_import_section(self, imports, section)?;
        imports.import(MODULE, ENTER, EntityType::Function(self.types));
        imports.import(MODULE, LEAVE, EntityType::Function(self.types));
        imports.import(MODULE, COPIES, EntityType::Function(self.types + 1));
        Ok(())
    }

    fn parse_global_section(
        &mut self,
        globals: &mut GlobalSection,
        section: wasmparser::GlobalSectionReader<'_>,
    ) -> Result<(), Error<Self::Error>> {
        utils::parse_global_section(self, globals, section)?;
        let counter = GlobalType { val_type: ValType::I64, mutable: true, shared: false };
        globals.global(counter, &ConstExpr::i64_const(0));
        Ok(())
    }

    /// The body becomes a block, so that each of its ends comes to what follows the block. Between two places where control may
    /// come or go, instructions run one after the other: they are counted at once.
    fn parse_function_body(
        &mut self,
        code: &mut CodeSection,
        body: FunctionBody<'_>,
    ) -> Result<(), Error<Self::Error>> {
        let id = self.imports + self.written;
        let results = self.results[self.written as usize];
        self.written += 1;
        let mut function = self.new_function_with_parsed_locals(&body)?;
        self.tell(&mut function, id, 0);
        function.instruction(&Instruction::Block(results));
        let mut depth: u32 = 0;
        let mut straight = Vec::new();
        let mut counted = 0;
        for operator in body.get_operators_reader()? {
            let operator = operator?;
            let delimits = matches!(
                operator,
                Operator::Block { .. } | Operator::Loop { .. } | Operator::Else | Operator::End | Operator::Nop
            );
            counted += i64::from(!delimits);
            let mut ends = false;
            match operator {
                Operator::Block { .. } => depth += 1,
                Operator::Loop { .. } | Operator::If { .. } => (depth, ends) = (depth + 1, true),
                Operator::End => (depth, ends) = (depth.saturating_sub(1), true),
                Operator::Else
                | Operator::Br { .. }
                | Operator::BrIf { .. }
                | Operator::BrTable { .. }
                | Operator::Return
                | Operator::Unreachable => ends = true,
                Operator::MemoryCopy { .. } | Operator::MemoryFill { .. } => {
                    straight.push(Instruction::Call(self.imports + 2))
                }
                _ => {}
            }
            straight.push(match operator {
                Operator::Return => Instruction::Br(depth),
                operator => self.instruction(operator)?,
            });
            if ends {
                if counted > 0 {
                    function.instruction(&Instruction::GlobalGet(self.globals));
                    function.instruction(&Instruction::I64Const(counted));
                    function.instruction(&Instruction::I64Add);
                    function.instruction(&Instruction::GlobalSet(self.globals));
                }
                counted = 0;
                straight.drain(..).for_each(|instruction| {
                    function.instruction(&instruction);
                });
            }
        }
        self.tell(&mut function, id, 1);
        function.instruction(&Instruction::End);
        code.function(&function);
        Ok(())
    }
}

/// A module whose instructions are counted by hand: a loop, a way out of blocks, a call, and bytes filled at once.
#[cfg(test)]
mod tests {
    use super::*;
    use crate::plugin::Plugin;
    use wasm_encoder::Instruction::{
        Block, BrIf, Call, Drop, End, I32Const, I32Eqz, I32Sub, If, LocalGet, LocalTee, Loop, MemoryFill, Return,
    };
    use wasm_encoder::{ExportKind, ExportSection, FunctionSection, MemorySection, MemoryType};

    const IMPORT: u32 = 0;
    const COUNT_DOWN: u32 = 1;

    fn module() -> Vec<u8> {
        let mut types = TypeSection::new();
        types.ty().function([ValType::I32], [ValType::I32]);
        let mut imports = ImportSection::new();
        imports.import("env", "proxy_set_tick_period_milliseconds", EntityType::Function(0));
        let mut functions = FunctionSection::new();
        functions.function(0).function(0);
        let mut memories = MemorySection::new();
        memories.memory(MemoryType { minimum: 1, maximum: None, memory64: false, shared: false, page_size_log2: None });
        let mut globals = GlobalSection::new();
        globals.global(GlobalType { val_type: ValType::I32, mutable: true, shared: false }, &ConstExpr::i32_const(0));
        let mut exports = ExportSection::new();
        exports.export("run", ExportKind::Func, 2);

        let empty = BlockType::Empty;
        // Five each time round, and five on the way out.
        let count_down = [
            &[Loop(empty), LocalGet(0), I32Const(1), I32Sub, LocalTee(0), BrIf(0), End][..],
            &[Block(empty), LocalGet(0), I32Eqz, If(empty), I32Const(7), Return, End, End, I32Const(9), End],
        ];
        // Nine.
        let run = [
            &[I32Const(0), I32Const(1), I32Const(64), MemoryFill(0)][..],
            &[I32Const(5), Call(IMPORT), Drop, LocalGet(0), Call(COUNT_DOWN), End],
        ];
        let mut code = CodeSection::new();
        for body in [count_down.concat(), run.concat()] {
            let mut function = Function::new([]);
            body.iter().for_each(|instruction| {
                function.instruction(instruction);
            });
            code.function(&function);
        }
        let mut module = Module::new();
        module.section(&types).section(&imports).section(&functions).section(&memories);
        module.section(&globals).section(&exports).section(&code);
        module.finish()
    }

    #[test]
    fn instructions_are_counted_as_often_as_they_run() {
        let module = wasmi::Module::new(&wasmi::Engine::default(), metered(&module())).expect("a valid module");
        for rounds in [1, 10] {
            let mut plugin = Plugin::of(&module);
            plugin.host.enter(mooring::ids::ContextId(1));
            assert_eq!(plugin.call("run", &[rounds]), Some(7));
            let cost = plugin.cost();
            assert_eq!(cost.instructions(), 5 * i64::from(rounds) + 5 + 9);
            assert_eq!((cost.copied, cost.calls()), (64, vec!["run: set_tick_period_milliseconds".into()]));
        }
    }
}
