"""The parts of the Swift package for Core AI alone; `%name` is filled in."""

from __future__ import annotations

HEADER = """\
// %file, written by edgeq: loads and runs the Core AI model
// "%artifact" of %source.
//
// NOT RUN ON A DEVICE: files like this one run with Swift 6 on Linux, with stand-ins written after
// Apple's documentation of Core AI for iOS 27; nobody has built or run one on Apple's systems.
// Build it and try it before you ship it.
//
// As a package: unpack the bundle, and in Xcode choose File > Add Package Dependencies > Add Local.
// Then `import %module`.
// As files: drag into the project %model%files
// and this file, and tick your app's target.
//
// Deploy to iOS %ios / macOS %macos or later: older releases have no Core AI. If the memory of one
// app is too little, ask for the capability "Increased Memory Limit"
// (com.apple.developer.kernel.increased-memory-limit).

import CoreAI
import Foundation
%imports
@available(iOS %ios.0, macOS %macos.0, *)
public actor %type {
    public enum Failure: Error {
        /// The app has no such file: it is not in the target.
        case missingFile(String)
        /// The file has no such function.
        case missingFunction(String)
        /// So many tokens are not possible: none, or more than there is room for.
        case tokenCount(Int)
        /// So many numbers are not an input's.
        case numberCount(String, Int)
        /// The model gave no such output.
        case missingOutput(String)
        /// Answers are farther from edgeq's than kernels of another processor explain.
        case differs(Double)
        /// Another text was begun meanwhile.
        case interrupted
    }

    /// The model in the app. The first load on a device takes longest: Core AI specializes the
    /// model for the device and keeps the result.
    public static func load(
        options: SpecializationOptions = .default
    ) async throws -> %type {
        guard let url = resources.url(forResource: "%stem", withExtension: "aimodel") else {
            throw Failure.missingFile("%stem.aimodel")
        }
        return try await load(contentsOf: url, options: options)
    }

    /// A model (.aimodel, or .aimodelc as `coreai-build` compiles it) from anywhere.
    public static func load(
        contentsOf url: URL, options: SpecializationOptions = .default
    ) async throws -> %type {
        let model = try await AIModel(contentsOf: url, options: options)
        guard let function = try model.loadFunction(named: "main") else {
            throw Failure.missingFunction("main")
        }
        return %type(function: function)
    }

"""

READ = """\

    /// An output's numbers, row after row.
    private static func scalars<Scalar: BitwiseCopyable>(of output: NDArray, as type: Scalar.Type)
        -> [Scalar]
    {
        output.view(as: type).withUnsafePointer { first, shape, strides in
            var count = 1
            for axis in 0..<shape.count {
                count *= shape[axis]
            }
            var found: [Scalar] = []
            for number in 0..<count {
                // Rows may lie apart in memory.
                var rest = number
                var place = 0
                for axis in stride(from: shape.count - 1, through: 0, by: -1) {
                    place += rest %% shape[axis] * strides[axis]
                    rest /= shape[axis]
                }
                found.append(first[place])
            }
            return found
        }
    }
"""

ENCODER = """\
    /// How many tokens a text can have.
    public static let longest = %longest
    /// Precedes every text.
    public static let prompt = %prompt
    /// How many special tokens end a text.
    public static let closing = %closing
%classes
    private let function: InferenceFunction

    private init(function: InferenceFunction) {
        self.function = function
    }

    /// The %noun (%shown) of %whose, as token ids with the
    /// tokenizer's special tokens. Cut a longer text to `longest` tokens before, and keep its last
    /// special token.
    public func %noun(of tokens: [Int]) async throws -> [Float] {
        let length = tokens.count
        guard length > 0, length <= Self.longest else {
            throw Failure.tokenCount(length)
        }
        func row(_ values: [Int32]) -> NDArray {
            NDArray(scalars: values, shape: [1, length])
        }
        var answer = try await function.run(inputs: [
%features
        ])
        guard let %noun = answer.remove(%output)?.ndArray else {
            throw Failure.missingOutput(%output)
        }
        return Self.scalars(of: %noun, as: Float.self)
    }

    private func answer(to tokens: [Int]) async throws -> [Float] {
        try await %noun(of: tokens)
    }
"""

STATE = """\
    /// How many tokens a conversation can have: what the model's cache holds.
    public static let context = %context
    /// How many tokens of a prompt one run takes at most.
    public static let piece = %piece
    /// Tokens that end an answer.
    public static let endTokens: Set<Int> = [%ends]

    /// Keys and values of the tokens that were read. What lies behind them is never looked at, but
    /// must be numbers.
    private struct Cache {
%fields

        private static func zeros() -> NDArray {
            let count = %size
            return NDArray(scalars: [Float16](repeating: 0, count: count), shape: [%shape])
        }
    }

    private let function: InferenceFunction
    /// Made when it is first needed, and in the hands of a run while there is one.
    private var cache: Cache?
    /// One run after the other, as a cache asks for.
    private var isRunning = false
    /// How many tokens were read.
    public private(set) var position = 0
    /// Counts texts, so that one notices when another has taken over the cache.
    private var turn = 0

    private init(function: InferenceFunction) {
        self.function = function
    }

    /// Forgets everything that was read, and frees its memory.
    public func reset() {
        cache = nil
        position = 0
        turn += 1
    }

"""

LOGITS = """\
    /// Reads `tokens` behind those that were read; a score for every token that may follow.
    public func logits(after tokens: [Int]) async throws -> [Float] {
        guard !tokens.isEmpty, position + tokens.count <= Self.context else {
            throw Failure.tokenCount(tokens.count)
        }
        let mine = turn
        var rest = tokens[...]
        var found: [Float] = []
        while !rest.isEmpty {
            let next = rest.prefix(Self.piece)
            found = try await run(next, for: mine)
            rest = rest.dropFirst(next.count)
        }
        return found
    }

    /// The scores behind the last of some tokens.
    private func run(_ tokens: ArraySlice<Int>, for mine: Int) async throws -> [Float] {
        while isRunning {
            try await Task.sleep(nanoseconds: 1_000_000)
        }
        guard turn == mine, position + tokens.count <= Self.context else {
            throw Failure.interrupted
        }
        isRunning = true
        // Taken out, so that the run changes it in place.
        var kept = cache ?? Cache()
        cache = nil
        defer {
            isRunning = false
            if cache == nil {
                position = 0
            }
        }
        let count = tokens.count
        let inputs = [
            %ids: NDArray(scalars: tokens.map { Int32($0) }, shape: [1, count]),
            %position: NDArray(scalars: [Int32(position)], shape: [1]),
            %rows: NDArray(scalars: [Int32(count - 1)], shape: [1]),
        ]
        var states = InferenceFunction.MutableViews()
%inserts
        var answer = try await function.run(inputs: inputs, states: states)
        cache = kept
        guard turn == mine else {
            throw Failure.interrupted
        }
        guard let logits = answer.remove(%logits)?.ndArray else {
            throw Failure.missingOutput(%logits)
        }
        position += count
        return Self.scalars(of: logits, as: Float.self)
    }

    private func answer(to tokens: [Int]) async throws -> [Float] {
        reset()
        return try await logits(after: tokens)
    }

"""

ARRAYS = """\
    public struct Outputs: Sendable {
%fields
    }

    private let function: InferenceFunction

    private init(function: InferenceFunction) {
        self.function = function
    }

    /// Runs the model once. Inputs, row after row:
%shapes
    public func predict(%parameters) async throws -> Outputs {
%checks
        var answer = try await function.run(inputs: [
%features
        ])
%guards
        return Outputs(
%results
        )
    }
"""
