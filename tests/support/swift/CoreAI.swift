// The part of Core AI that edgeq's Swift files use, after the declarations of its documentation for
// iOS 27. The closure of `withUnsafePointer` gets buffers here, spans there: this compiler may have
// no `Span`.

import AppleHost
import Foundation

public struct SpecializationOptions: Sendable {
    public static let `default` = SpecializationOptions()
}

public struct NDArray: Sendable {
    // Outputs lie in memory with a gap behind every row, as Apple's may.
    static let gap = 3

    public struct View<Element: BitwiseCopyable> {
        let memory: [Element]
        let shape: [Int]
        let strides: [Int]

        public func withUnsafePointer<R, E: Error>(
            _ body: (UnsafePointer<Element>, [Int], [Int]) throws(E) -> R
        ) throws(E) -> R {
            let copy = UnsafeMutablePointer<Element>.allocate(capacity: max(memory.count, 1))
            defer { copy.deallocate() }
            copy.initialize(from: memory, count: memory.count)
            return try body(UnsafePointer(copy), shape, strides)
        }
    }

    final class Storage: @unchecked Sendable {
        var numbers: Numbers

        init(_ numbers: Numbers) {
            self.numbers = numbers
        }
    }

    let storage: Storage

    init(_ numbers: Numbers) {
        storage = Storage(numbers)
    }

    public init<Scalar: BitwiseCopyable>(scalars: some Sequence<Scalar>, shape: [Int]) {
        let values = scalars.map { scalar -> Double in
            switch scalar {
            case let value as Float16: return Double(value)
            case let value as Float: return Double(value)
            case let value as Int32: return Double(value)
            default: fatalError("\(Scalar.self)")
            }
        }
        precondition(values.count == shape.reduce(1, *), "other scalars than the shape has")
        self.init(Numbers(scalars: values, shape: shape, type: "\(Scalar.self)"))
    }

    public func view<T: BitwiseCopyable>(as type: T.Type = T.self) -> View<T> {
        let numbers = storage.numbers
        precondition(numbers.type == "\(T.self)", "the array holds \(numbers.type)")
        let row = numbers.shape.last ?? 1
        var memory: [T] = []
        for (index, value) in numbers.scalars.enumerated() {
            memory.append(Self.scalar(value, as: type))
            if index % row == row - 1 {
                memory += [T](repeating: Self.scalar(-1, as: type), count: Self.gap)
            }
        }
        var strides: [Int] = []
        var step = 1
        for (axis, size) in numbers.shape.enumerated().reversed() {
            strides.insert(step, at: 0)
            step = axis == numbers.shape.count - 1 ? row + Self.gap : step * size
        }
        return View(memory: memory, shape: numbers.shape, strides: strides)
    }

    private static func scalar<T>(_ value: Double, as type: T.Type) -> T {
        if type == Float.self { return Float(value) as! T }
        if type == Float16.self { return Float16(value) as! T }
        return Int32(value) as! T
    }
}

public struct InferenceValue: Sendable {
    public let ndArray: NDArray?
}

public struct InferenceFunction: Sendable {
    public struct MutableViews: ~Copyable {
        var views: [String: NDArray.Storage] = [:]

        public init() {}

        public mutating func insert(_ value: inout NDArray, for name: String) {
            views[name] = value.storage
        }
    }

    public struct Outputs: Sendable {
        var values: [String: InferenceValue]

        public mutating func remove(_ name: String) -> InferenceValue? {
            values.removeValue(forKey: name)
        }
    }

    let number: Int

    public func run(
        inputs: [String: NDArray], states: consuming MutableViews = MutableViews(),
        outputViews: consuming MutableViews = MutableViews()
    ) async throws -> Outputs {
        let answer = try Host.shared.ask(
            "run",
            [
                "model": number,
                "inputs": inputs.mapValues(\.storage.numbers.json),
                "states": states.views.mapValues(\.numbers.json),
            ])
        for (name, value) in answer["states"] as! [String: Any] {
            states.views[name]?.numbers = Numbers(value)
        }
        let outputs = answer["outputs"] as! [String: Any]
        return Outputs(
            values: outputs.mapValues { InferenceValue(ndArray: NDArray(Numbers($0))) })
    }
}

public struct AIModel: Sendable {
    private let number: Int

    public init(contentsOf url: URL, options: SpecializationOptions = .default) async throws {
        number = try Host.shared.ask("open", ["path": url.path])["number"] as! Int
    }

    public func loadFunction(named name: String) throws -> InferenceFunction? {
        name == "main" ? InferenceFunction(number: number) : nil
    }
}
