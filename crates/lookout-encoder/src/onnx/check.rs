//! Rules of every graph, checked before a library sees one: what libraries say of a graph that
//! breaks them names neither the place nor the way out.

use std::collections::HashSet;
use std::path::Path;

use tract_onnx::pb::{GraphProto, NodeProto};

use super::file::fault;
use super::rules::{check_attributes, is_of_known_set};
use crate::EncoderError;

/// Names that are known at one place of a graph.
struct Scope<'g, 's> {
    values: HashSet<&'g str>,
    outer: Option<&'s Scope<'g, 's>>,
}

impl Scope<'_, '_> {
    fn has(&self, name: &str) -> bool {
        self.values.contains(name) || self.outer.is_some_and(|it| it.has(name))
    }
}

/// Every value must be made once, and before it is read.
pub(crate) fn check_values(path: &Path, graph: &GraphProto) -> Result<(), EncoderError> {
    check_scope(path, graph, None)
}

fn check_scope<'g>(
    path: &Path,
    graph: &'g GraphProto,
    outer: Option<&Scope<'g, '_>>,
) -> Result<(), EncoderError> {
    let inputs = graph.input.iter().map(|it| it.name.as_str());
    let constants = graph.initializer.iter().map(|it| it.name.as_str());
    let sparse = graph.sparse_initializer.iter().filter_map(|it| it.values.as_ref());
    let sparse = sparse.map(|it| it.name.as_str());
    let mut scope = Scope { values: inputs.chain(constants).chain(sparse).collect(), outer };
    for (idx, node) in graph.node.iter().enumerate() {
        let mut inputs = node.input.iter().filter(|it| !it.is_empty());
        if let Some(name) = inputs.find(|it| !scope.has(it)) {
            let later = graph.node[idx..].iter().find(|it| it.output.contains(name));
            let got = later.map_or("nothing".to_owned(), |it| {
                format!("what {} makes later: the nodes are not in order", place(it))
            });
            let at = format!("input {name:?} of {}", place(node));
            let rule = "an input of the graph, an initializer or what an earlier node makes; \
                        export the model again";
            return Err(fault(path, at, rule, got));
        }
        for inner in subgraphs(node) {
            check_scope(path, inner, Some(&scope))?;
        }
        for output in node.output.iter().filter(|it| !it.is_empty()) {
            if !scope.values.insert(output) {
                let at = format!("output {output:?} of {}", place(node));
                let rule = "the only value of its name; export the model again";
                return Err(fault(path, at, rule, "another"));
            }
        }
    }
    // A graph within a node may not just hand on a value of the outer one.
    match graph.output.iter().find(|it| !scope.values.contains(it.name.as_str())) {
        None => Ok(()),
        Some(it) => {
            let at = format!("output {:?} of graph {:?}", it.name, graph.name);
            let rule = "what one of its nodes makes; export the model again";
            Err(fault(path, at, rule, "nothing"))
        }
    }
}

/// Every operator must be one that `is_known`, of a set that this program knows, and have attributes
/// that such an operator can have; `advice` says what to do about other operators.
pub(crate) fn check_operators(
    path: &Path,
    graph: &GraphProto,
    is_known: &dyn Fn(&str) -> bool,
    advice: &str,
) -> Result<(), EncoderError> {
    for node in &graph.node {
        if !is_known(&node.op_type) || !is_of_known_set(node) {
            let at = format!("the operator of {}", place(node));
            let rule = format!("one that tract or this program can run; {advice}");
            let domain = Some(node.domain.as_str()).filter(|it| !it.is_empty());
            let domain = domain.map_or(String::new(), |it| format!(" of {it}"));
            return Err(fault(path, at, rule, format!("{}{domain}", node.op_type)));
        }
        check_attributes(path, node)?;
        for inner in subgraphs(node) {
            check_operators(path, inner, is_known, advice)?;
        }
    }
    Ok(())
}

/// The most nodes of a graph. Large towers have some 4000; tract takes time with the square.
const MAX_NODES: usize = 10_000;

/// A graph must be such as can be loaded in reasonable time.
pub(crate) fn check_count(path: &Path, graph: &GraphProto) -> Result<(), EncoderError> {
    fn count(graph: &GraphProto) -> usize {
        graph.node.iter().map(|it| 1 + subgraphs(it).map(count).sum::<usize>()).sum()
    }
    let n = count(graph);
    if n <= MAX_NODES {
        return Ok(());
    }
    let rule = format!(
        "of at most {MAX_NODES} nodes that its output needs; export the model again without what is \
         written out many times"
    );
    Err(fault(path, "the graph", rule, n))
}

/// Gives a node whose name another node or value has that of its first output: tract wants all
/// names to differ, ONNX does not.
pub(crate) fn name_nodes(graph: &mut GraphProto) {
    let inputs = graph.input.iter().map(|it| &it.name);
    let constants = graph.initializer.iter().map(|it| &it.name);
    let outputs = graph.node.iter().flat_map(|it| &it.output);
    let values: HashSet<String> = inputs.chain(constants).chain(outputs).cloned().collect();
    let mut taken = HashSet::new();
    for node in &mut graph.node {
        let own = node.output.iter().find(|it| !it.is_empty()).cloned().unwrap_or_default();
        let is_free = node.name == own || !values.contains(&node.name);
        if node.name.is_empty() || !is_free || !taken.insert(node.name.clone()) {
            node.name = own;
        }
        for attribute in &mut node.attribute {
            attribute.g.iter_mut().chain(&mut attribute.graphs).for_each(name_nodes);
        }
    }
}

/// Drops nodes that no output needs, and tells the names that one does.
pub(crate) fn retain_needed(graph: &mut GraphProto) -> HashSet<String> {
    let mut needed: HashSet<String> = graph.output.iter().map(|it| it.name.clone()).collect();
    let mut kept = Vec::new();
    for node in std::mem::take(&mut graph.node).into_iter().rev() {
        if node.output.iter().any(|it| !it.is_empty() && needed.contains(it)) {
            needed.extend(inputs_of(&node).into_iter().map(str::to_owned));
            kept.push(node);
        }
    }
    kept.reverse();
    graph.node = kept;
    needed
}

/// Names that a node reads, graphs within it included.
pub(crate) fn inputs_of(node: &NodeProto) -> Vec<&str> {
    let mut names: Vec<&str> = node.input.iter().map(String::as_str).collect();
    for graph in subgraphs(node) {
        names.extend(graph.output.iter().map(|it| it.name.as_str()));
        names.extend(graph.node.iter().flat_map(inputs_of));
    }
    names
}

fn subgraphs(node: &NodeProto) -> impl Iterator<Item = &GraphProto> {
    node.attribute.iter().flat_map(|it| it.g.iter().chain(&it.graphs))
}

/// The node, for people.
pub(super) fn place(node: &NodeProto) -> String {
    let output = node.output.first().map_or("", String::as_str);
    let name = if node.name.is_empty() { output } else { &node.name };
    format!("node {name:?} ({})", node.op_type)
}
