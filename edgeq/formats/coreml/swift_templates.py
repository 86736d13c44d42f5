"""The parts of the Swift package for Core ML alone; `%name` is filled in."""

from __future__ import annotations

HEADER = """\
// %file, written by edgeq: loads and runs the Core ML package
// "%artifact" of %source.
//
// NOT RUN ON A DEVICE: files like this one run with Swift 6 on Linux, with stand-ins written after
// Core ML's headers for iOS 18; nobody has built or run one on Apple's systems. Build it and run
// selfTest() before you ship it.
//
// As a package: unpack the bundle, and in Xcode choose File > Add Package Dependencies > Add Local.
// Then `import %module`.
// As files: drag %model%files and this file
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

STATE = """\
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

"""

LOGITS = """\
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
                try run(next, length: inPieces ? Self.piece : 1)
            }
            rest = rest.dropFirst(next.count)
        }
        return found
    }

    private func run(_ tokens: ArraySlice<Int>, length: Int) throws -> [%scalar] {
        // Nothing before the filling sees it, and the next run writes over it.
        let filling = [Int32](repeating: 0, count: length - tokens.count)
        let ids = MLShapedArray<Int32>(
            scalars: tokens.map { Int32($0) } + filling, shape: [1, length])
        let place = MLShapedArray<Int32>(scalars: [Int32(position)], shape: [1])
        let last = MLShapedArray<Int32>(scalars: [Int32(tokens.count - 1)], shape: [1])
        let features = try MLDictionaryFeatureProvider(dictionary: [
            %ids: MLFeatureValue(shapedArray: ids),
            %position: MLFeatureValue(shapedArray: place),
            %rows: MLFeatureValue(shapedArray: last),
        ])
        let answer = try model.prediction(from: features, using: state)
        let output = answer.featureValue(for: %logits)
        guard let logits = output?.shapedArrayValue(of: %scalar.self) else {
            throw Failure.missingOutput(%logits)
        }
        position += tokens.count
        return logits.scalars
    }

    private func answer(to tokens: [Int]) throws -> [%scalar] {
        reset()
        return try logits(after: tokens)
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
