//! The built plugin in an interpreter, with a meter in it and a fake proxy around it.

use crate::imports;
use crate::meter;
use built_plugin_tests::Built;
use mooring_test_kit::fake::FakeProxy;
use std::collections::BTreeMap;
use std::sync::LazyLock;
use wasmi::{Engine, Instance, Module, Store, Val};

/// A callback, and what it took.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Callback {
    pub name: &'static str,
    pub instructions: i64,
    /// The host calls that it made, in order, and what they were about.
    pub calls: Vec<String>,
}

/// What a function took.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Taken {
    pub calls: u64,
    /// Instructions of its own.
    pub own: i64,
    /// With those of what it called.
    pub all: i64,
}

/// What some callbacks took.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Cost {
    pub callbacks: Vec<Callback>,
    /// Answers for which the proxy asked for memory.
    pub returned: u64,
    /// Instructions that copied or filled more than a word at once. Each is a call, to a compiler.
    pub copies: u64,
    /// Bytes that these copied or filled.
    pub copied: u64,
    /// By index.
    functions: BTreeMap<u32, Taken>,
}

impl Cost {
    pub fn instructions(&self) -> i64 {
        self.callbacks.iter().map(|callback| callback.instructions).sum()
    }

    /// The host calls of each callback that made some, in order. The same one several times over is told once.
    pub fn calls(&self) -> Vec<String> {
        let several = |same: &[String]| match same {
            [only] => only.clone(),
            same => format!("{} ({} times)", same[0], same.len()),
        };
        let made =
            |calls: &[String]| calls.chunk_by(|one, next| one == next).map(several).collect::<Vec<_>>().join(", ");
        let callbacks = self.callbacks.iter().filter(|callback| !callback.calls.is_empty());
        callbacks.map(|callback| format!("{}: {}", callback.name, made(&callback.calls))).collect()
    }

    /// Each host call, in order.
    pub fn host_calls(&self) -> impl Iterator<Item = &str> {
        self.callbacks.iter().flat_map(|callback| &callback.calls).map(String::as_str)
    }

    /// Every function that ran, by name. (Names may be told apart by their hashes alone.)
    pub fn functions(&self) -> Vec<(&'static str, Taken)> {
        self.functions.iter().map(|(index, taken)| (LOADED.names[index].as_str(), *taken)).collect()
    }

    /// How often memory was allocated.
    pub fn allocations(&self) -> u64 {
        self.functions().iter().filter(|(name, _)| *name == "dlmalloc").map(|(_, taken)| taken.calls).sum()
    }
}

/// The plugin with the meter, and the names of its functions. Translated once: that takes longer than most requests.
struct Loaded {
    module: Module,
    names: BTreeMap<u32, String>,
}

static LOADED: LazyLock<Loaded> = LazyLock::new(|| {
    let Built { bytes, names } = Built::read();
    let module = Module::new(&Engine::default(), meter::metered(&bytes)).expect("a valid module");
    Loaded { module, names }
});

/// A function that has begun.
struct Frame {
    function: u32,
    began: i64,
    /// What those that it called took.
    called: i64,
}

/// What the interpreter hands to imports.
pub struct Watch {
    pub host: FakeProxy,
    pub cost: Cost,
    frames: Vec<Frame>,
}

impl Watch {
    pub fn enter(&mut self, function: u32, began: i64) {
        self.frames.push(Frame { function, began, called: 0 });
    }

    pub fn leave(&mut self, function: u32, count: i64) {
        let frame = self.frames.pop().expect("what returns has begun");
        assert_eq!(frame.function, function, "functions return in the order of their calls");
        let all = count - frame.began;
        let recursive = self.frames.iter().any(|frame| frame.function == function);
        let taken = self.cost.functions.entry(function).or_default();
        taken.calls += 1;
        taken.own += all - frame.called;
        taken.all += if recursive { 0 } else { all };
        match (self.frames.last_mut(), self.cost.callbacks.last_mut()) {
            (Some(caller), _) => caller.called += all,
            (None, Some(callback)) => callback.instructions += all,
            (None, None) => panic!("nobody called"),
        }
    }
}

/// The plugin in a VM of its own.
pub struct Plugin {
    pub host: FakeProxy,
    store: Store<Watch>,
    instance: Instance,
}

impl Plugin {
    /// The plugin as a proxy has it after loading.
    pub fn load() -> Self {
        let mut plugin = Self::of(&LOADED.module);
        plugin.call("_initialize", &[]);
        plugin
    }

    /// A metered module, in the plugin's place.
    pub fn of(module: &Module) -> Self {
        let host = FakeProxy::default();
        let watch = Watch { host: host.clone(), cost: Cost::default(), frames: Vec::new() };
        let mut store = Store::new(module.engine(), watch);
        let instance =
            imports::linker(module.engine()).instantiate_and_start(&mut store, module).expect("every import");
        Self { host, store, instance }
    }

    /// Calls a callback. What it answers, if it does.
    pub fn call(&mut self, name: &'static str, arguments: &[u32]) -> Option<u32> {
        let function = self.instance.get_func(&self.store, name).unwrap_or_else(|| panic!("no export {name}"));
        let arguments: Vec<Val> = arguments.iter().map(|argument| Val::I32(argument.cast_signed())).collect();
        let mut answer = vec![Val::I32(0); function.ty(&self.store).results().len()];
        let name = name.trim_start_matches("proxy_");
        self.store.data_mut().cost.callbacks.push(Callback { name, instructions: 0, calls: Vec::new() });
        function.call(&mut self.store, &arguments, &mut answer).unwrap_or_else(|e| panic!("{name}: {e}"));
        answer.first().and_then(Val::i32).map(i32::cast_unsigned)
    }

    /// What the callbacks took.
    pub fn cost(&self) -> &Cost {
        &self.store.data().cost
    }

    /// From here on it is metered anew.
    pub fn forget(&mut self) {
        self.store.data_mut().cost = Cost::default();
    }

    /// The pages of its memory.
    pub fn pages(&self) -> u64 {
        self.instance.get_memory(&self.store, "memory").expect("a memory").size(&self.store)
    }
}
