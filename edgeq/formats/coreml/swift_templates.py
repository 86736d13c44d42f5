"""The parts of the Swift file that `edgeq.formats.coreml.swift` writes; `%name` is filled in."""

from __future__ import annotations

HEADER = """\
// %file, written by edgeq: loads and runs the Core ML package
// "%artifact" of %source.
//
// NOT COMPILED: nobody has built or run this file. It was written where there is no Swift compiler,
// after Core ML's headers for iOS 18. Build it and compare a few answers before you ship it.
//
// In Xcode:
// 1. Drag %package%tokenizer and this file into the project and tick
//    your app's target. Xcode compiles the package into %stem.mlmodelc inside the app.
// 2. In the target's build settings, set "CoreML Model Class Generation Language"
//    (COREML_CODEGEN_LANGUAGE) to None: this file takes the place of the class Xcode generates.
// 3. Deploy to iOS %ios / macOS %macos or later: older releases cannot run the package.
// 4. If the memory of one app is too little, ask for the capability "Increased Memory Limit"
//    (com.apple.developer.kernel.increased-memory-limit).
%tokens
import CoreML
import Foundation

@available(iOS %ios.0, macOS %macos.0, *)
actor EdgeqModel {
    enum Failure: Error {
        /// The app has no %stem.mlmodelc: the package is not in the target.
        case missingModel
        /// So many tokens are not possible: none, or more than there is room for.
        case tokenCount(Int)
        /// The model gave no such output, or one of another type.
        case missingOutput(String)
    }

    /// The model in the app. The first load on a device takes longest: Core ML prepares the model
    /// for its compute units and keeps the result.
    static func load(computeUnits: MLComputeUnits = .all) async throws -> EdgeqModel {
        guard let url = Bundle.main.url(forResource: "%stem", withExtension: "mlmodelc") else {
            throw Failure.missingModel
        }
        return try await load(contentsOf: url, computeUnits: computeUnits)
    }

    /// A compiled model (.mlmodelc) from anywhere.
    static func load(
        contentsOf url: URL, computeUnits: MLComputeUnits = .all
    ) async throws -> EdgeqModel {
        let configuration = MLModelConfiguration()
        configuration.computeUnits = computeUnits
        let model = try await MLModel.load(contentsOf: url, configuration: configuration)
        return EdgeqModel(model: model)
    }

    /// Compiles a package that was downloaded, once, and puts the result to `destination`
    /// (…/name.mlmodelc): Core ML leaves it in a temporary place.
    static func compile(packageAt package: URL, to destination: URL) async throws {
        let compiled = try await MLModel.compileModel(at: package)
        let files = FileManager.default
        if files.fileExists(atPath: destination.path) {
            try files.removeItem(at: destination)
        }
        try files.moveItem(at: compiled, to: destination)
    }

"""

TOKENS = """\
//
// Texts: this file takes token ids, so that it needs no package. The product `Tokenizers` of
// https://github.com/huggingface/swift-transformers makes them from a folder with %tokenizer
// and the tokenizer_config.json of the same model:
//     let tokenizer = try await AutoTokenizer.from(modelFolder: folder)
//     let ids = tokenizer.encode(text: text)
"""

ENCODER = """\
    /// How many tokens one run can have; fewer are filled up and masked.
    static let lengths = [%lengths]
%classes
    private let model: MLModel

    private init(model: MLModel) {
        self.model = model
    }

    /// The %noun (%shown) of %whose, as token ids with the tokenizer's special tokens.
    /// Cut a longer text to `lengths.last` tokens before, and keep its last special token.
    func %noun(of tokens: [Int]) throws -> [%scalar] {
        guard !tokens.isEmpty, let length = Self.lengths.first(where: { $0 >= tokens.count }) else {
            throw Failure.tokenCount(tokens.count)
        }
        let ids = tokens.map { Int32($0) }
        let filling = [Int32](repeating: 0, count: length - ids.count)
        func row(_ values: [Int32]) -> MLFeatureValue {
            MLFeatureValue(shapedArray: MLShapedArray<Int32>(scalars: values, shape: [1, length]))
        }
        let features = try MLDictionaryFeatureProvider(dictionary: [
%features
        ])
        let answer = try model.prediction(from: features)
        let output = answer.featureValue(for: %output)
        guard let %noun = output?.shapedArrayValue(of: %scalar.self) else {
            throw Failure.missingOutput(%output)
        }
        return %result
    }
"""

DECODER = """\
    /// How many tokens a conversation can have: what the model's cache holds.
    static let context = %context
    /// How many tokens of a prompt one run takes; otherwise a run takes one.
    static let piece = %piece
    /// Tokens that end an answer.
    static let endTokens: Set<Int> = [%ends]

    private let model: MLModel
    /// Keys and values of the tokens that were read. The actor runs one prediction after the other,
    /// as a state asks for.
    private var state: MLState
    /// How many tokens were read.
    private(set) var position = 0

    private init(model: MLModel) {
        self.model = model
        state = model.makeState()
    }

    /// Forgets everything that was read.
    func reset() {
        state = model.makeState()
        position = 0
    }

    /// Continues what was read and `prompt`, always with the likeliest token, up to an end token,
    /// `maxTokens` or a full context. `each` gets every token as it comes.
    func generate(
        after prompt: [Int], maxTokens: Int, each: @Sendable (Int) -> Void = { _ in }
    ) throws -> [Int] {
        var written: [Int] = []
        var token = try likeliest(after: prompt)
        while written.count < maxTokens, !Self.endTokens.contains(token) {
            written.append(token)
            each(token)
            guard written.count < maxTokens, position < Self.context else { break }
            try Task.checkCancellation()
            token = try likeliest(after: [token])
        }
        return written
    }

    /// Reads `tokens` behind those that were read; the token that most likely follows.
    func likeliest(after tokens: [Int]) throws -> Int {
        guard !tokens.isEmpty, position + tokens.count <= Self.context else {
            throw Failure.tokenCount(tokens.count)
        }
        var rest = tokens[...]
        var found = 0
        while !rest.isEmpty {
            // A whole piece must fit into the cache, filled up or not.
            let inPieces = rest.count > 1 && position + Self.piece <= Self.context
            let next = rest.prefix(inPieces ? Self.piece : 1)
            // Core ML's own objects are freed after every run, not at the end of all.
            found = try autoreleasepool {
                try run(next, length: inPieces ? Self.piece : 1)
            }
            rest = rest.dropFirst(next.count)
        }
        return found
    }

    private func run(_ tokens: ArraySlice<Int>, length: Int) throws -> Int {
        // Nothing before the filling sees it, and the next run writes over it.
        let filling = [Int32](repeating: 0, count: length - tokens.count)
        let ids = MLShapedArray<Int32>(
            scalars: tokens.map { Int32($0) } + filling, shape: [1, length])
        let place = MLShapedArray<Int32>(scalars: [Int32(position)], shape: [1])
        let features = try MLDictionaryFeatureProvider(dictionary: [
            %ids: MLFeatureValue(shapedArray: ids),
            %position: MLFeatureValue(shapedArray: place),
        ])
        let answer = try model.prediction(from: features, using: state)
        let output = answer.featureValue(for: %logits)
        guard let logits = output?.shapedArrayValue(of: %scalar.self) else {
            throw Failure.missingOutput(%logits)
        }
        position += tokens.count
        return Self.indexOfLargest(logits[0][tokens.count - 1])
    }

    /// Looks at the row where it is: logits are large, and a copy of them is not needed.
    private static func indexOfLargest(_ row: MLShapedArraySlice<%scalar>) -> Int {
        row.withUnsafeShapedBufferPointer { scalars, shape, strides -> Int in
            let step = strides[0]
            var best = 0
            for index in 1..<shape[0] where scalars[index * step] > scalars[best * step] {
                best = index
            }
            return best
        }
    }
"""

ARRAYS = """\
    struct Outputs: Sendable {
%fields
    }

    private let model: MLModel

    private init(model: MLModel) {
        self.model = model
    }

    /// Runs the model once. Shapes of the inputs:
%shapes
    func predict(%parameters) throws -> Outputs {
        let features = try MLDictionaryFeatureProvider(dictionary: [
%features
        ])
        let answer = try model.prediction(from: features)
        return Outputs(
%results
        )
    }

    private static func array<Scalar: MLShapedArrayScalar>(
        _ name: String, in answer: MLFeatureProvider
    ) throws -> MLShapedArray<Scalar> {
        guard let array = answer.featureValue(for: name)?.shapedArrayValue(of: Scalar.self) else {
            throw Failure.missingOutput(name)
        }
        return array
    }
"""

END = "}\n"
