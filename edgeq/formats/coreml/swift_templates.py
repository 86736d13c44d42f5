"""The parts of the Swift package that `edgeq.formats.coreml.swift` writes; `%name` is filled in."""

from __future__ import annotations

PACKAGE = """\
// swift-tools-version: 5.9
// Written by edgeq: the unpacked bundle is a Swift package. NOT COMPILED: see %file.

import PackageDescription

let name = "%module"

let package = Package(
    name: name,
    platforms: [.iOS("%ios.0"), .macOS("%macos.0")],
    products: [.library(name: name, targets: [name])],
    dependencies: [
%dependencies    ],
    targets: [
        .target(
            name: name,
            dependencies: [%products],
            path: ".",
            sources: ["%file"],
            resources: [
%resources
            ]
        )
    ]
)
"""

HEADER = """\
// %file, written by edgeq: loads and runs the Core ML package
// "%artifact" of %source.
//
// NOT COMPILED: nobody has built or run this file. It was written where there is no Swift compiler,
// after Core ML's headers for iOS 18. Build it and run selfTest() before you ship it.
//
// As a package: unpack the bundle, and in Xcode choose File > Add Package Dependencies > Add Local.
// Then `import %module`.
// As files: drag %package%files and this file
// into the project and tick your app's target. In its build settings, set "CoreML Model Class
// Generation Language" (COREML_CODEGEN_LANGUAGE) to None: this file takes the place of the class
// that Xcode generates.
//
// Deploy to iOS %ios / macOS %macos or later: older releases cannot run the package. If the memory
// of one app is too little, ask for the capability "Increased Memory Limit"
// (com.apple.developer.kernel.increased-memory-limit).

import CoreML
import Foundation
%imports
@available(iOS %ios.0, macOS %macos.0, *)
public actor %type {
    public enum Failure: Error {
        /// The app has no such file: it is not in the target.
        case missingFile(String)
        /// So many tokens are not possible: none, or more than there is room for.
        case tokenCount(Int)
        /// The model gave no such output, or one of another type.
        case missingOutput(String)
        /// Answers are farther from edgeq's than kernels of another processor explain.
        case differs(Double)
        /// Another text was begun meanwhile.
        case interrupted
    }

    /// The model in the app. The first load on a device takes longest: Core ML prepares the model
    /// for its compute units and keeps the result.
    public static func load(
        computeUnits: MLComputeUnits = .all
    ) async throws -> %type {
        guard let url = resources.url(forResource: "%stem", withExtension: "mlmodelc") else {
            throw Failure.missingFile("%stem.mlmodelc")
        }
        return try await load(contentsOf: url, computeUnits: computeUnits)
    }

    /// A compiled model (.mlmodelc) from anywhere.
    public static func load(
        contentsOf url: URL, computeUnits: MLComputeUnits = .all
    ) async throws -> %type {
        let configuration = MLModelConfiguration()
        configuration.computeUnits = computeUnits
        let model = try await MLModel.load(contentsOf: url, configuration: configuration)
        return %type(model: model)
    }

    /// Compiles a package that was downloaded, once, and puts the result to `destination`
    /// (…/name.mlmodelc): Core ML leaves it in a temporary place.
    public static func compile(packageAt package: URL, to destination: URL) async throws {
        let compiled = try await MLModel.compileModel(at: package)
        let files = FileManager.default
        if files.fileExists(atPath: destination.path) {
            try files.removeItem(at: destination)
        }
        try files.moveItem(at: compiled, to: destination)
    }

    private static var resources: Bundle {
        #if SWIFT_PACKAGE
        return Bundle.module
        #else
        return Bundle.main
        #endif
    }

"""

TOKENIZER = """\

    // Texts need the product `Tokenizers` of https://github.com/huggingface/swift-transformers, 1.0
    // or later, which the package depends on.
    #if canImport(Tokenizers)
    private var tokenizer: (any Tokenizer)?

    private func loadedTokenizer() async throws -> any Tokenizer {
        if let tokenizer {
            return tokenizer
        }
        guard let folder = Self.resources.resourceURL else {
            throw Failure.missingFile("tokenizer.json")
        }
        let loaded = try await AutoTokenizer.from(modelFolder: folder)
        tokenizer = loaded
        return loaded
    }
%texts    #endif
"""

ENCODER_TEXTS = """\

    /// The %noun (%shown) of a text.
    public func %noun(of text: String) async throws -> [%scalar] {
        try %noun(of: await tokens(of: text))
    }

    /// The ids of a text, after the model's own prompt and cut to the longest run.
    public func tokens(of text: String) async throws -> [Int] {
        let ids = try await loadedTokenizer().encode(text: Self.prompt + text)
        guard let most = Self.lengths.last, ids.count > most else {
            return ids
        }
        return Array(ids.prefix(most - Self.closing)) + Array(ids.suffix(Self.closing))
    }
"""

ENCODER = """\
    /// How many tokens one run can have; fewer are filled up and masked.
    public static let lengths = [%lengths]
    /// Precedes every text.
    public static let prompt = %prompt
    /// How many special tokens end a text.
    public static let closing = %closing
%classes
    private let model: MLModel

    private init(model: MLModel) {
        self.model = model
    }

    /// The %noun (%shown) of %whose, as token ids with the tokenizer's special tokens.
    /// Cut a longer text to `lengths.last` tokens before, and keep its last special token.
    public func %noun(of tokens: [Int]) throws -> [%scalar] {
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

    private func answer(to tokens: [Int]) throws -> [%scalar] {
        try %noun(of: tokens)
    }
"""

DECODER = """\
    /// How to choose the next token: the likeliest, or at a temperature above 0 by chance, of the
    /// `topK` likeliest (0 is all) that together have the share `topP`.
    public struct Sampling: Sendable {
        public var temperature: Float
        public var topK: Int
        public var topP: Float
        public var seed: UInt64

        public init(temperature: Float = 0, topK: Int = 0, topP: Float = 1, seed: UInt64 = 0) {
            self.temperature = temperature
            self.topK = topK
            self.topP = topP
            self.seed = seed
        }
    }

    /// How many tokens a conversation can have: what the model's cache holds.
    public static let context = %context
    /// How many tokens of a prompt one run takes; otherwise a run takes one.
    public static let piece = %piece
    /// Tokens that end an answer.
    public static let endTokens: Set<Int> = [%ends]

    private let model: MLModel
    /// Keys and values of the tokens that were read. The actor runs one prediction after the other,
    /// as a state asks for.
    private var state: MLState
    /// How many tokens were read.
    public private(set) var position = 0
    /// Counts texts, so that one notices when another has taken over the state.
    private var turn = 0

    private init(model: MLModel) {
        self.model = model
        state = model.makeState()
    }

    /// Forgets everything that was read.
    public func reset() {
        state = model.makeState()
        position = 0
        turn += 1
    }

    #if canImport(UIKit)
    /// From now on, forgets what was read when the system is short of memory; whoever is writing
    /// then gets `Failure.interrupted`. Call it once.
    public func forgetOnMemoryWarnings() {
        let name = UIApplication.didReceiveMemoryWarningNotification
        Task { [weak self] in
            for await _ in NotificationCenter.default.notifications(named: name) {
                await self?.reset()
            }
        }
    }
    #endif

    /// The tokens that follow what was read and `prompt`, as they come, up to an end token,
    /// `maxTokens` or a full context. Whoever stops reading, or cancels the task, stops the model.
    public nonisolated func generate(
        after prompt: [Int], maxTokens: Int, sampling: Sampling = Sampling()
    ) -> AsyncThrowingStream<Int, Error> {
        AsyncThrowingStream { continuation in
            let work = Task {
                do {
                    try await self.write(after: prompt, maxTokens: maxTokens, sampling: sampling) {
                        continuation.yield($0)
                    }
                    continuation.finish()
                } catch {
                    continuation.finish(throwing: error)
                }
            }
            continuation.onTermination = { _ in work.cancel() }
        }
    }

    private func write(
        after prompt: [Int], maxTokens: Int, sampling: Sampling, each: @Sendable (Int) -> Void
    ) async throws {
        turn += 1
        let mine = turn
        var chance = Chance(state: sampling.seed)
        var unread = prompt
        for _ in 0..<maxTokens {
            try Task.checkCancellation()
            guard turn == mine else { throw Failure.interrupted }
            let token = Self.choose(from: try logits(after: unread), sampling, &chance)
            guard !Self.endTokens.contains(token) else { return }
            each(token)
            guard position < Self.context else { return }
            unread = [token]
            await Task.yield()
        }
    }

    /// Reads `tokens` behind those that were read; a score for every token that may follow.
    public func logits(after tokens: [Int]) throws -> [%scalar] {
        guard !tokens.isEmpty, position + tokens.count <= Self.context else {
            throw Failure.tokenCount(tokens.count)
        }
        var rest = tokens[...]
        var found: [%scalar] = []
        while !rest.isEmpty {
            // A whole piece must fit into the cache, filled up or not.
            let inPieces = rest.count > 1 && position + Self.piece <= Self.context
            let next = rest.prefix(inPieces ? Self.piece : 1)
            // Core ML's own objects are freed after every run, not at the end of all.
            found = try autoreleasepool {
                try run(next, length: inPieces ? Self.piece : 1, isLast: next.count == rest.count)
            }
            rest = rest.dropFirst(next.count)
        }
        return found
    }

    private func run(_ tokens: ArraySlice<Int>, length: Int, isLast: Bool) throws -> [%scalar] {
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
        return isLast ? logits[0][tokens.count - 1].scalars : []
    }

    private func answer(to tokens: [Int]) throws -> [%scalar] {
        reset()
        return try logits(after: tokens)
    }

    private static func choose(
        from logits: [%scalar], _ sampling: Sampling, _ chance: inout Chance
    ) -> Int {
        guard sampling.temperature > 0 else {
            var best = 0
            for index in 1..<logits.count where logits[index] > logits[best] {
                best = index
            }
            return best
        }
        var order = Array(logits.indices).sorted { logits[$0] > logits[$1] }
        if sampling.topK > 0 {
            order = Array(order.prefix(sampling.topK))
        }
        let most = Float(logits[order[0]])
        let weights = order.map { exp((Float(logits[$0]) - most) / sampling.temperature) }
        let all = weights.reduce(0, +)
        var kept = 0
        var share: Float = 0
        while kept < order.count, kept == 0 || share < sampling.topP * all {
            share += weights[kept]
            kept += 1
        }
        var left = Float.random(in: 0..<share, using: &chance)
        for place in 0..<kept {
            left -= weights[place]
            if left < 0 {
                return order[place]
            }
        }
        return order[kept - 1]
    }

    /// The same numbers for the same seed (SplitMix64).
    private struct Chance: RandomNumberGenerator {
        var state: UInt64

        mutating func next() -> UInt64 {
            state &+= 0x9E37_79B9_7F4A_7C15
            var mixed = state
            mixed = (mixed ^ (mixed >> 30)) &* 0xBF58_476D_1CE4_E5B9
            mixed = (mixed ^ (mixed >> 27)) &* 0x94D0_49BB_1331_11EB
            return mixed ^ (mixed >> 31)
        }
    }
"""

DECODER_TEXTS = """\

    /// The ids of a text, with the special tokens that precede one.
    public func tokens(of text: String) async throws -> [Int] {
        try await loadedTokenizer().encode(text: text)
    }

    /// The text that follows what was read and `prompt`, in pieces.
    public nonisolated func generate(
        after prompt: String, maxTokens: Int, sampling: Sampling = Sampling()
    ) -> AsyncThrowingStream<String, Error> {
        text(maxTokens, sampling) { try await self.tokens(of: prompt) }
    }
%chat
    private nonisolated func text(
        _ maxTokens: Int, _ sampling: Sampling,
        of prompt: @escaping @Sendable () async throws -> [Int]
    ) -> AsyncThrowingStream<String, Error> {
        AsyncThrowingStream { continuation in
            let work = Task {
                do {
                    let tokenizer = try await self.loadedTokenizer()
                    var ids: [Int] = []
                    var shown = ""
                    let stream = self.generate(
                        after: try await prompt(), maxTokens: maxTokens, sampling: sampling)
                    for try await token in stream {
                        ids.append(token)
                        let whole = tokenizer.decode(tokens: ids, skipSpecialTokens: true)
                        // The bytes of a character may come in several tokens.
                        if !whole.hasSuffix("\\u{FFFD}"), whole.hasPrefix(shown) {
                            continuation.yield(String(whole.dropFirst(shown.count)))
                            shown = whole
                        }
                    }
                    continuation.finish()
                } catch {
                    continuation.finish(throwing: error)
                }
            }
            continuation.onTermination = { _ in work.cancel() }
        }
    }
"""

CHAT = """\

    /// The answer to a conversation, by the model's own chat template:
    /// `[["role": "user", "content": "…"]]`. It begins with nothing read.
    public func reply(
        to messages: [Message], maxTokens: Int, sampling: Sampling = Sampling()
    ) async throws -> AsyncThrowingStream<String, Error> {
        let ids = try await loadedTokenizer().applyChatTemplate(messages: messages)
        reset()
        return text(maxTokens, sampling) { ids }
    }
"""

SELF_TEST = """\

    /// Compares the model's answers with edgeq's for the same token ids. Returns the largest
    /// distance; throws if it is more than kernels of another processor explain.
    @discardableResult
    public func selfTest() throws -> Double {
        guard let url = Self.resources.url(forResource: "selftest", withExtension: "json") else {
            throw Failure.missingFile("selftest.json")
        }
        let test = try JSONDecoder().decode(SelfTest.self, from: Data(contentsOf: url))
        var worst = 0.0
        for each in test.cases {
            guard let tokens = each.token_ids, let wanted = each.outputs.first else { continue }
            let found = try answer(to: tokens)
            var apart = 0.0
            var size = 0.0
            for (place, value) in zip(wanted.at, wanted.values) {
                apart += pow(Double(found[place]) - value, 2)
                size += value * value
            }
            worst = max(worst, (apart / max(size, 1e-12)).squareRoot())
        }
        guard worst <= test.largest_distance_other_cpu else { throw Failure.differs(worst) }
        return worst
    }

    private struct SelfTest: Decodable {
        struct Output: Decodable {
            let at: [Int]
            let values: [Double]
        }

        struct Case: Decodable {
            let token_ids: [Int]?
            let outputs: [Output]
        }

        let largest_distance_other_cpu: Double
        let cases: [Case]
    }
"""

ARRAYS = """\
    public struct Outputs: Sendable {
%fields
    }

    private let model: MLModel

    private init(model: MLModel) {
        self.model = model
    }

    /// Runs the model once. Inputs:
%shapes
    public func predict(%parameters) throws -> Outputs {
        let features = try MLDictionaryFeatureProvider(dictionary: [
%features
        ])
        let answer = try model.prediction(from: features)
        return Outputs(
%results
        )
    }
%images
    private static func value<Found>(
        _ name: String, in answer: MLFeatureProvider, _ read: (MLFeatureValue) -> Found?
    ) throws -> Found {
        guard let value = answer.featureValue(for: name), let found = read(value) else {
            throw Failure.missingOutput(name)
        }
        return found
    }
"""

IMAGES = """\

    /// Runs the model on an image of any size, which Core ML scales to %width × %height.
    public func predict(_ image: CGImage) throws -> Outputs {
        let value = try MLFeatureValue(
            cgImage: image, pixelsWide: %width, pixelsHigh: %height,
            pixelFormatType: %pixels, options: nil)
        guard let buffer = value.imageBufferValue else {
            throw Failure.missingOutput(%input)
        }
        return try predict(%label: buffer)
    }
"""

END = "}\n"
