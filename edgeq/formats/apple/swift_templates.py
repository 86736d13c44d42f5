"""Parts of the Swift packages around models of both of Apple's formats; `%name` is filled in."""

from __future__ import annotations

PACKAGE = """\
// swift-tools-version: 5.9
// Written by edgeq: the unpacked bundle is a Swift package. NOT RUN ON A DEVICE: see
// %file.

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

RESOURCES = """\
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
%texts%test    #endif
"""

TOKENIZER_TEST = """\

    /// Texts of which the tokenizer in the app makes other ids than the one that was checked: the
    /// answers to these are others, too.
    public func textsWithOtherTokens() async throws -> [String] {
        var others: [String] = []
        for each in try Self.recordedTest().ordinary_texts {
            if try await tokens(of: each.text) != each.token_ids {
                others.append(each.text)
            }
        }
        return others
    }
"""

ENCODER_TEXTS = """\

    /// The %noun (%shown) of a text.
    public func %noun(of text: String) async throws -> [%scalar] {
        try await %noun(of: tokens(of: text))
    }

    /// The ids of a text, after the model's own prompt and cut to the longest run.
    public func tokens(of text: String) async throws -> [Int] {
        let ids = try await loadedTokenizer().encode(text: Self.prompt + text)
        guard ids.count > %longest else {
            return ids
        }
        return Array(ids.prefix(%longest - Self.closing)) + Array(ids.suffix(Self.closing))
    }
"""

SAMPLING = """\
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

"""

GENERATE = """\
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
            let scores = %calls logits(after: unread)
            let token = Self.choose(from: scores, sampling, &chance)
            guard !Self.endTokens.contains(token) else { return }
            each(token)
            guard position < Self.context else { return }
            unread = [token]
            await Task.yield()
        }
    }

"""

CHOOSE = """\
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
                    func scalars(of ids: ArraySlice<Int>) -> String.UnicodeScalarView {
                        tokenizer.decode(tokens: Array(ids), skipSpecialTokens: true).unicodeScalars
                    }
                    let ids = try await prompt()
                    // A token's text depends on those before it: a space may begin it or not.
                    var tokens = ids.suffix(4)
                    var shown = tokens.count
                    for try await token in self.generate(
                        after: ids, maxTokens: maxTokens, sampling: sampling)
                    {
                        tokens.append(token)
                        let before = scalars(of: tokens.prefix(shown)).count
                        let whole = scalars(of: tokens)
                        // The bytes of a character may come in several tokens.
                        if whole.count > before, whole.last != "\\u{FFFD}" {
                            continuation.yield(String(whole.dropFirst(before)))
                            tokens.removeFirst(shown)
                            shown = tokens.count
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
    public func selfTest()%async throws -> Double {
        let test = try Self.recordedTest()
        var worst = 0.0
        for each in test.cases {
            guard let tokens = each.token_ids, let wanted = each.outputs.first else { continue }
            let found = %calls answer(to: tokens)
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

    private static func recordedTest() throws -> SelfTest {
        guard let url = resources.url(forResource: "selftest", withExtension: "json") else {
            throw Failure.missingFile("selftest.json")
        }
        return try JSONDecoder().decode(SelfTest.self, from: Data(contentsOf: url))
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

        struct TokenizedText: Decodable {
            let text: String
            let token_ids: [Int]
        }

        let ordinary_texts: [TokenizedText]
        let largest_distance_other_cpu: Double
        let cases: [Case]
    }
"""

END = "}\n"
