// The part of Core AI that edgeq's Swift files use, after the declarations of its documentation for
// iOS 27. The closure of `withUnsafePointer` gets buffers here, spans there: this compiler may have
// no `Span`.

import Foundation

public struct SpecializationOptions: Sendable {
    public static let `default` = SpecializationOptions()
}

public struct NDArray: Sendable {
    public struct View<Element: BitwiseCopyable> {
        public func withUnsafePointer<R, E: Error>(
            _ body: (UnsafePointer<Element>, [Int], [Int]) throws(E) -> R
        ) throws(E) -> R { fatalError("only compiled") }
    }

    public init<Scalar: BitwiseCopyable>(scalars: some Sequence<Scalar>, shape: [Int]) {}

    public func view<T: BitwiseCopyable>(as type: T.Type = T.self) -> View<T> { View() }
}

public struct InferenceValue: Sendable {
    public var ndArray: NDArray? { nil }
}

public struct InferenceFunction: Sendable {
    public struct MutableViews: ~Copyable {
        public init() {}

        public mutating func insert(_ value: inout NDArray, for name: String) {}
    }

    public struct Outputs: Sendable {
        public mutating func remove(_ name: String) -> InferenceValue? { nil }
    }

    public func run(
        inputs: [String: NDArray], states: consuming MutableViews = MutableViews(),
        outputViews: consuming MutableViews = MutableViews()
    ) async throws -> Outputs { Outputs() }
}

public struct AIModel: Sendable {
    public init(contentsOf url: URL, options: SpecializationOptions = .default) async throws {}

    public func loadFunction(named name: String) throws -> InferenceFunction? { nil }
}
